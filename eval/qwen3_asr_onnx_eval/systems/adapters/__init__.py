"""One file per system under evaluation, each run in a process of its own by `serve.py`."""
