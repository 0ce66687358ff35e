"""The verbs of this workshop: bench, eval, report."""
