"""What the inputs of the products look like on real speech."""
