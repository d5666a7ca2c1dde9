"""Sphinx configuration: MyST Markdown pages, an API reference from the docstrings at run time, no network."""

import sys
from pathlib import Path

import modeling_atri


DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS / "_ext"))

project = "modeling_atri"
author = "The modeling_atri developers"
copyright = f"2026, {author}"
release = modeling_atri.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "docstrings",  # docs/_ext: the docstrings' Markdown, as in transformers, to reStructuredText
    "public_names",  # docs/_ext: the API reference of a package from its __all__
    "command_help",  # docs/_ext: what `atri COMMAND --help` prints
    "file_table",  # docs/_ext: the files of each folder, from their docstrings
    "formulas",  # docs/_ext: formulas as MathML
    "language_table",  # docs/_ext: the languages that captions can be in
]
exclude_patterns = ["_build", "_ext"]

# MyST
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # included files begin at their own heading level

# Docstrings write code in single backticks, as transformers' do.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_display_short_literal_types = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# Nothing is fetched, so types of other libraries have no page to link to; a link within the package must resolve.
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]

html_theme = "furo"
html_title = f"modeling_atri {release}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = False
