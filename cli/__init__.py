"""The `atri` command."""
