"""tests.parity."""
