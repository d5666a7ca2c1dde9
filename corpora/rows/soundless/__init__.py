"""Rows that have embeddings instead of recordings, or captions alone."""
