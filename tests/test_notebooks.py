"""The notebooks run from top to bottom, show what they promise, and are kept with their outputs."""

import re
import sys
from pathlib import Path

import jupytext
import pytest
import synthetic_study

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "notebooks"))

import run  # noqa: E402

SLOW = 120  # seconds


def pictures(notebook) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("name", run.names())
def test_a_notebook_is_kept_as_its_script_is_with_outputs_and_without_logs(name):
    notebook, script = run.kept(name), jupytext.read(ROOT / "notebooks" / f"{name}.py")
    assert notebook is not None and notebook.metadata[run.DIGEST] == run.digest(name)
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in script.cells]
    assert pictures(notebook) >= 2
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert {output["output_type"] for output in outputs} <= {
        *("stream", "display_data", "execute_result"),
    }
    assert "stderr" not in {output.get("name") for output in outputs}
    assert not re.search(r"/(home|work|tmp|Users)/", str(outputs))
    picture = ROOT / "docs" / "images" / f"{name}.png"
    assert picture.read_bytes() == run.picture(notebook)
    assert f"../docs/images/{name}.png" in (ROOT / "notebooks" / "README.md").read_text()


@pytest.mark.slow(10)
@pytest.mark.parametrize("name", ["extend", "range_test", "tutorial"])
def test_a_notebook_still_prints_what_it_keeps(name, tmp_path):
    again = run.executed(name, tmp_path, SLOW)
    assert run.printed(again) == run.printed(run.kept(name))


@pytest.mark.slow(6)
def test_the_figures_are_redrawn_without_training(tmp_path):
    config = synthetic_study.config(
        "study.sweeps=[weights,order,batch_size,validation]",
        "sweep.crossed_runs=0",
        "sweeps.order.crossed_runs=0",
        "sweeps.batch_size.crossed_runs=0",
        "sweeps.validation.crossed_runs=0",
        "divergence.policies=[one_cycle]",
        "report.bootstrap_resamples=100",
    )
    synthetic_study.write(tmp_path, config)
    notebook = run.executed("figures", tmp_path, SLOW)
    assert "Study synthetic: ResNet-8, batch 64" in run.printed(notebook)
    assert pictures(notebook) == 1 + 10  # its own; gradient_descent, typical, ... of the report


def test_the_kept_figures_are_of_the_committed_studies():
    notebook = run.kept("figures")
    assert "Study blog: ResNet-56" in run.printed(notebook)
    assert "Study resnet20: ResNet-20" in run.printed(notebook) and pictures(notebook) >= 10
