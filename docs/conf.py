"""Sphinx: pages in Markdown, the reference from docstrings. `make docs` builds them, offline.

Every link within the pages must resolve, every name in a docstring too (``nitpicky``); a warning
is an error. The theme loads nothing from elsewhere.
"""

import re
import shutil
from pathlib import Path

from sphinx.ext.autodoc.mock import _MockObject

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
_MockObject.__or__ = lambda self, other: self  # in a signature: torch.dtype | None
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
    (r"py:.*", r"lrrt\.(analysis|claims|core|experiments|report|runs|stages)\b.*"),
    (r"py:.*", r"lrrt\.Suggestion\.cautions|NUMBERS|device_and_precision|step|evaluate"),
    (r"py:.*", r"(numpy|matplotlib|keras|torch)\..*"),
]

html_theme = "furo"
html_title = f"lrrt {version}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["dark.css", "tables.css"]
html_show_sphinx = False


def setup(app):
    app.connect("builder-inited", lambda app: write_notebooks(Path(app.srcdir)))
    app.connect("build-finished", lambda app, _: copy_what_reports_link_to(Path(app.outdir)))


def copy_what_reports_link_to(site: Path) -> None:
    """The figures and tables of a report beside the copy of its page that Sphinx has made."""
    reports = Path(__file__).parents[1] / "reports"
    folders = {page.read_bytes(): page.parent for page in reports.glob("*/report.html")}
    for page in (site / "_downloads").glob("*/report.html"):
        shutil.copytree(folders[page.read_bytes()], page.parent, dirs_exist_ok=True)


def write_notebooks(docs: Path) -> None:
    """The executed notebooks as pages: ``docs/notebooks/NAME.md`` with their pictures."""
    from nbconvert import MarkdownExporter

    folder = docs / "notebooks"
    folder.mkdir(exist_ok=True)
    for path in sorted((docs.parent / "notebooks").glob("*.ipynb")):
        resources = {"output_files_dir": ".", "unique_key": path.stem}
        text, found = MarkdownExporter().from_filename(str(path), resources)
        text = re.sub(r"\]\((?:\.\./)docs/", "](../", text)
        text = re.sub(r"(!\[[^\]]*\]\()(?=[^)/]+\.png)", r"\1", text)
        _write(folder / f"{path.stem}.md", text.encode())
        for name, content in found["outputs"].items():
            _write(folder / Path(name).name, content)


def _write(path: Path, content: bytes) -> None:
    """Only what has changed: Sphinx reads again what is newer than its page."""
    if not path.is_file() or path.read_bytes() != content:
        path.write_bytes(content)
