"""Bundle + data -> measurements -> tables."""
