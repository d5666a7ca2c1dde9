"""Teaching: the frozen teacher, the tables of its embeddings, and the rows that training reads them from."""
