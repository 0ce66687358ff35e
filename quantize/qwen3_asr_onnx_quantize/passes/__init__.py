"""Graph passes, one per file. Each turns products with a constant weight into a quantised form of themselves."""
