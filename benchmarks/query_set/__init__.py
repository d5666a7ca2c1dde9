"""Queries as people type them, in eight languages, for scenes of one or two sounds: the rules, and the file of them."""
