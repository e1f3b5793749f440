"""One file a peer: how its documentation says a model is opened and called.

These files run in the peer's own environment, where there is no Lineside: `serve.py` loads one of
them by its path and measures it.
"""
