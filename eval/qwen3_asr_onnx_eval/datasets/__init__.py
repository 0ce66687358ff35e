"""Utterances with their reference texts, from manifests, folders, hubs and the miniature."""
