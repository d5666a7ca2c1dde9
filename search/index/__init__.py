"""The tables of an index on LanceDB, and what keeps them up to date with a folder."""
