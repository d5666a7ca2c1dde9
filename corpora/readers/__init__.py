"""Readers of public corpora in the layouts that people have on disk, one file for each."""
