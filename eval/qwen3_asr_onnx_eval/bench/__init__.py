"""Speed and memory on full-size random checkpoints, ours and upstream in turns."""
