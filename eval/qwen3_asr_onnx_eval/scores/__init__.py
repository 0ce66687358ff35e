"""Counts of errors, their intervals, and what two systems differ by."""
