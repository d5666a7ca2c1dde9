"""Readers of public corpora, as people hold them on disk."""
