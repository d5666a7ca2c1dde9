"""Teaching: teachers, the models that are taught, tables of fixed embeddings, and the rows that training reads."""
