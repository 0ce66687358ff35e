"""From a corpus to checkpoints in the original layout."""
