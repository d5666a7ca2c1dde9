"""Synthetic scenes with captions in eight languages, which need no download."""
