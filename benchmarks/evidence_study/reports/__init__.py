"""The reports of studies whose tables and plots are not made beside their cells."""
