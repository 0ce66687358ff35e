"""Running systems over a dataset, and the rows that are kept."""
