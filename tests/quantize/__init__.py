"""tests.quantize."""
