"""What can be checked of a variant without transformers: parts of it against numpy, and all of it on a clip."""
