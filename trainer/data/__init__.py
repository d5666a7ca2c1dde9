"""Draws, batches and augmentation of the training data, the collator, and caches on disk."""
