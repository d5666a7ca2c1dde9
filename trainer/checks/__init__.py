"""Checks that refuse a run before it starts: its rows, embeddings, options, optimizer, and devices and processes."""
