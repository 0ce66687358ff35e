"""Sentences as sound: voices, rooms and noise, the corpus and the checked-in clips."""
