"""Prepared folders: how they are written, joined, and compared for overlap."""
