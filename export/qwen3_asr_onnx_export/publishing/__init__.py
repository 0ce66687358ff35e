"""Bundles and layouts as others download them: archives with digests and a model card, and a repository on the hub."""
