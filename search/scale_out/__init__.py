"""Indexing with several processes and machines."""
