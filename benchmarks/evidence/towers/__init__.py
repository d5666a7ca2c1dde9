"""Text towers of the evidence studies that are not part of the package."""
