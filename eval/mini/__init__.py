"""A miniature Qwen3-ASR: its open toy language, synthetic speech, training and evaluation."""
