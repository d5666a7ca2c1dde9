"""What several benchmarks use: options, timing, the JSON report, and the ESC-10 scenes."""
