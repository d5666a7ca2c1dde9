"""Rows in tar and zip archives, and in folders of loose sounds with captions beside them."""
