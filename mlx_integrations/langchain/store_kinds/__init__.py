"""What can be learnt from each kind of LangChain's vector stores, and where the record of its model lies."""
