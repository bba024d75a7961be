"""Sphinx: pages in Markdown, the reference from docstrings. `make docs` builds them, offline.

Every link within the pages must resolve, every name in a docstring too (``nitpicky``); a warning
is an error. The theme loads nothing from elsewhere.
"""

import lrrt

project = "lrrt"
author = "The lrrt developers"
copyright = f"2026, {author}"
version = release = lrrt.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
autosummary_generate = False
napoleon_google_docstring = False
napoleon_use_param = False  # "loss : callable, optional" is prose, not a list of names to resolve
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say types, with shapes and units
# Pages are built without a framework; the pages on its callbacks, too.
autodoc_mock_imports = [
    "transformers",
    "keras",
    "lightning",
    "pytorch_lightning",
    "tensorflow",
    "torch",
]

nitpicky = True
# Names of other packages, whose documentation would have to be asked over a network; and those of
# the inside of the study, which have no page.
nitpick_ignore_regex = [
    (r"py:.*", r"lrrt\.(analysis|report)\..*"),
    (r"py:.*", r"(numpy|matplotlib|keras|torch)\..*"),
]

html_theme = "furo"
html_title = f"lrrt {version}"
html_copy_source = False
html_show_sphinx = False
