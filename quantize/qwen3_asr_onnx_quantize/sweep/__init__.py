"""Many recipes, measured: fidelity, word errors, speed, one table."""
