"""RUN models in this process: the only room that knows MLX.

Everything that touches an array happens on one thread (`worker.py`). Callers on any thread or event loop exchange
plain Python objects with it: token ids in, token ids out.
"""
