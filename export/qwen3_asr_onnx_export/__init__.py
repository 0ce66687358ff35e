"""Checkpoint -> graphs -> weights -> bundle. Needs torch and transformers: the `[export]` extra.

The graphs of the released shapes, and where their weights lie, are had without: `graphs`, `templates`, `placement`.
"""
