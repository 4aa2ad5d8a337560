"""What `RouterLLM` knows of LlamaIndex, so that the router itself need not."""
