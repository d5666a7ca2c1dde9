"""Captions translated into other languages, with a record of how each was made."""
