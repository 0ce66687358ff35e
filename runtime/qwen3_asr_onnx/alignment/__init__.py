"""Word times: text and audio in, every word with its start and end out."""
