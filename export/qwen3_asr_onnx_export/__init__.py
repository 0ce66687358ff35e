"""Checkpoint -> graphs -> weights -> bundle. Needs torch and transformers: the `[export]` extra."""
