"""The toy language: what can be said, in three tongues, and its tokenizer."""
