"""Data: the row schema and its checks, public corpora, translation, and generated soundscapes."""
