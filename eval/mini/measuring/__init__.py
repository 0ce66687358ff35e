"""What a checkpoint gets right, with its uncertainty."""
