"""How cost grows with length, threads and batch."""
