"""The notebooks on your own model and on extending run, and show what they promise."""

import re
from importlib.util import find_spec
from pathlib import Path

import jupytext
import nbclient
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def executed(name: str, folder: Path, **shorter: int) -> tuple[str, int]:
    """Run a notebook in ``folder``, ``shorter`` in place of its own arguments; what it prints, and
    its number of pictures."""
    source = (NOTEBOOKS / f"{name}.py").read_text()
    for given, value in shorter.items():
        source, count = re.subn(rf"\b{given}=\d+", f"{given}={value}", source)
        assert count
    notebook = jupytext.reads(source, "py:percent")
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    return "".join(output.get("text", "") for output in outputs), len(pictures)


@pytest.mark.skipif(
    not all(map(find_spec, ("torchvision", "keras"))), reason="needs torchvision and Keras"
)
def test_audits_of_three_models(tmp_path):
    text, pictures = executed("your_model", tmp_path, runs=2, steps=12, train_steps=10)
    assert pictures == 4
    assert text.count("fastai_valley: ") >= 5 and text.count("of the runs lie within") == 3
    assert "Short trainings" in text


def test_a_data_set_a_network_and_a_rule_are_added(tmp_path):
    text, pictures = executed("extend", tmp_path)
    assert pictures == 2
    assert "lrrt.datasets: bars, cifar10, digits" in text
    assert "lrrt.core.networks: plain, resnet" in text and "half_way, ignite" in text
    assert "half_way: " in text and re.search("rust it|order of magnitude", text)
