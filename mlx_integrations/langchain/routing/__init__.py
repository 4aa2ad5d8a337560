"""What `ChatRouter` and `RoutedEmbeddings` know of LangChain, so that the router itself need not."""
