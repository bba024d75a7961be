"""Execute notebooks: ``python notebooks/run.py [NAME ...]`` writes ``NAME.ipynb`` and its picture.

Without names, those whose script has changed since. A notebook keeps what its cells print and draw,
in one thread and without logs, and the digest of its script; ``tests/test_notebooks.py`` holds them
to it.
"""

import base64
import hashlib
import os
import sys
from pathlib import Path

import jupytext
import nbclient
import nbformat

FOLDER = Path(__file__).parent
PICTURES = FOLDER.parent / "docs" / "images"
PICTURE = "picture"  # tag of the cell whose picture stands for the notebook
DIGEST = "script_sha256"
QUIET = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "TQDM_DISABLE": "1"}


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.name != Path(__file__).name)


def digest(name: str) -> str:
    return hashlib.sha256((FOLDER / f"{name}.py").read_bytes()).hexdigest()


def kept(name: str) -> nbformat.NotebookNode | None:
    """The executed notebook, if there is one."""
    path = FOLDER / f"{name}.ipynb"
    return nbformat.read(path, 4) if path.is_file() else None


def executed(name: str, folder: Path = FOLDER, timeout: int = 600) -> nbformat.NotebookNode:
    """The notebook of ``NAME.py``, run in ``folder``; standard error is left out."""
    notebook = jupytext.read(FOLDER / f"{name}.py")
    os.environ |= QUIET
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=timeout, resources=resources).execute()
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{name}-{number}"  # which nbformat would draw at random
        cell.metadata.pop("execution", None)  # times
        if cell.cell_type == "code":
            cell.outputs = [
                output
                for output in cell.outputs
                if output.get("name") != "stderr"
                and "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
            ]
    notebook.metadata = {
        "kernelspec": notebook.metadata["kernelspec"],
        "language_info": {"name": "python"},
        DIGEST: digest(name),
    }
    return notebook


def picture(notebook: nbformat.NotebookNode) -> bytes:
    """The first picture of the cell that is tagged as such, PNG."""
    (cell,) = (c for c in notebook.cells if PICTURE in c.metadata.get("tags", []))
    data = (output.get("data", {}) for output in cell.outputs)
    return base64.b64decode(next(d["image/png"] for d in data if "image/png" in d))


def printed(notebook: nbformat.NotebookNode) -> str:
    """All that the cells print."""
    return "".join(
        output.get("text", "")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("output_type") == "stream"
    )


def main(wanted: list[str]) -> None:
    for name in wanted or names():
        found = kept(name)
        if wanted or found is None or found.metadata.get(DIGEST) != digest(name):
            notebook = executed(name)
            nbformat.write(notebook, FOLDER / f"{name}.ipynb")
            (PICTURES / f"{name}.png").write_bytes(picture(notebook))
            print(f"{name}.ipynb", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
