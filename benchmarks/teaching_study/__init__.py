"""The runs of `teaching.py`, the pretrained text encoder of some of them, and the report."""
