"""Queries as people type them in eight languages, for scenes of one or two sounds: their rules, checks and answers."""
