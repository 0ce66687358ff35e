"""What was made here, for other people: uploaded to a repository of the Hugging Face hub."""
