"""Recordings of any length, many at once: clips in, segments out, in order."""
