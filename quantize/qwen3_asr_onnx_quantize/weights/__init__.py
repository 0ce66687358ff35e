"""Weights on their way from the float32 files into the files of a variant, one tensor in memory at a time."""
