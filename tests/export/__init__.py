"""tests.export."""
