"""Checks that refuse a run before it starts: its rows, options, optimizer, and devices and processes."""
