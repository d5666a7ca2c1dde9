"""Parts of `moments.py`."""
