"""What commands print and draw: tables, figures of runs, failures."""
