"""Draws, batches and augmentation of the training data, the collator, tokens of captions, and caches on disk."""
