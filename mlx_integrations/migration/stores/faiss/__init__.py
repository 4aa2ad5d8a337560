"""FAISS, as LangChain and LlamaIndex keep it."""
