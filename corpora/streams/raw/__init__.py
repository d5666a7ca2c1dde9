"""Rows of streams as they are in their sources, in blocks whose place can be found again."""
