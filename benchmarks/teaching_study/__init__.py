"""The runs of `teaching.py`, the text encoder that some of them use, and the report."""
