"""The page to search an index in a browser, with Gradio."""
