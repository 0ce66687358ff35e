"""tests.eval."""
