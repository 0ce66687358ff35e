"""Bundle + recipe -> variant."""
