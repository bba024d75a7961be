"""The notebooks run from top to bottom and show what they promise."""

from pathlib import Path

import jupytext
import nbclient
import pytest
import synthetic_study

ROOT = Path(__file__).parents[1]


def executed(name: str, folder: Path) -> tuple[str, int]:
    """Run a notebook in ``folder``; its printed and Markdown text, and its number of pictures."""
    notebook = jupytext.read(ROOT / "notebooks" / f"{name}.py")
    nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(folder)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = [
        output.get("text") or output.get("data", {}).get("text/markdown", "") for output in outputs
    ]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    return "\n".join(text), len(pictures)


def test_the_range_test_is_explained_on_a_small_network(tmp_path):
    text, pictures = executed("range_test", tmp_path)
    assert pictures == 2
    assert "a factor of 1.23 each step" in text
    assert "blog_keras" in text and "max LR of 20 runs: median" in text


def test_the_posts_figures_are_redrawn_without_training(tmp_path):
    config = synthetic_study.config(
        "study.sweeps=[weights,order,batch_size,validation]",
        "sweep.crossed_runs=0",
        "sweeps.order.crossed_runs=0",
        "sweeps.batch_size.crossed_runs=0",
        "sweeps.validation.crossed_runs=0",
        "report.bootstrap_resamples=100",
    )
    synthetic_study.write(tmp_path, config)
    text, pictures = executed("figures", tmp_path)
    assert "Study synthetic: ResNet-8." in text and "needs" not in text
    assert pictures == 3 + 2 * 5  # navigation, typical, published; five others for two cases each


@pytest.mark.skipif(
    not (ROOT / "data/blog/curves").is_dir() or not (ROOT / "reports/blog/params.yaml").is_file(),
    reason="the study at the post's scale is not here",
)
def test_the_posts_figures_are_redrawn_from_the_committed_study():
    text, pictures = executed("figures", ROOT)
    assert "Study blog: ResNet-56." in text and pictures >= 3
