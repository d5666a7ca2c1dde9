"""Parts of `atri teach`: the model that is taught, what is measured, and what is said about both."""
