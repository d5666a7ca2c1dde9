"""`atri prepare`: public corpora, made into folders that `atri train` reads."""
