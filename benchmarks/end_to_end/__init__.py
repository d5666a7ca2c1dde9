"""What `bench_end_to_end.py` compares: its clips and model, and the ways of other libraries."""
