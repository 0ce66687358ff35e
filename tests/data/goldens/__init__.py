"""tests.data.goldens."""
