"""docs/how_to.md: its code runs (that for Keras in live_keras.py), and its numbers are right."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import lrrt
from lrrt import cli

TEXT = (Path(__file__).parents[1] / "docs" / "how_to.md").read_text()


def blocks(section: str) -> list[str]:
    part = TEXT.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"```(?:python|sh)\n(.*?)```", part, re.DOTALL)


def run(section: str, names: dict, *changes: tuple[str, str]) -> dict:
    """The names that a section's block leaves; ``changes`` make it short."""
    (code,) = blocks(section)
    for old, new in changes:
        assert old in code
        code = code.replace(old, new)
    exec(compile(code, f"how_to.md, {section}", "exec"), names)
    return names


def test_every_block_has_a_test():
    tests = Path(__file__).read_text() + (Path(__file__).parent / "live_keras.py").read_text()
    for section in re.findall(r"^## (.*)$", TEXT, re.MULTILINE):
        assert not blocks(section) or f'"{section}"' in tests, section


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    return torch


def test_fine_tuning(torch):
    import small_torch

    class Pretrained(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = torch.nn.Linear(6, 12), torch.nn.Linear(12, 3)

        def forward(self, x):
            return self.head(torch.relu(self.backbone(x)))

    torch.manual_seed(0)
    weights = Pretrained().backbone.state_dict()

    def pretrained():
        model = Pretrained()
        model.backbone.load_state_dict(weights)
        return model

    names = {"lrrt": lrrt, "torch": torch, "pretrained": pretrained}
    names |= {"loss": small_torch.LOSS, "make_data": small_torch.loader}
    short = ("runs=10, train_steps=100", "runs=2, train_steps=10")
    audit = run("Fine-tuning", names, short)["audit"]
    assert len(audit.curves) == 2 and audit.lr is not None
    assert len(audit.trials) == 6 and {trial.factor for trial in audit.trials} == {0.1, 1, 10}
    rates = audit.curves[0].lr
    assert rates[0] == 1e-6 and 0.1 < rates[-1] <= 10 * (1 + 1e-9)


def test_a_model_with_its_own_loss(torch):
    import small_torch

    class OwnLoss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = small_torch.network()

        def forward(self, x, labels):
            return {"loss": small_torch.LOSS(self.network(x), labels)}

    model, (x, y) = OwnLoss(), small_torch.tensors()
    loader = [{"x": x[i : i + 16], "labels": y[i : i + 16]} for i in range(0, 96, 16)]
    optimizer = torch.optim.AdamW(model.parameters())
    names = {"lrrt": lrrt, "model": model, "loader": loader, "optimizer": optimizer}
    curve = run("AdamW and transformers", names)["curve"]
    assert curve.lr[0] == 1e-6 and np.isfinite(curve.loss[0])


def test_lightning():
    import small_torch
    import test_finder_lightning  # which skips where there is no Lightning

    lightning = test_finder_lightning.lightning

    quiet = "enable_progress_bar=False, enable_checkpointing=False, logger=False, max_epochs=1, "
    names = run("Lightning", {"lightning": lightning}, ("callbacks=", f"{quiet}callbacks="))
    names["trainer"].fit(test_finder_lightning.Module(), small_torch.loader())
    (callback,) = (
        c for c in names["trainer"].callbacks if isinstance(c, names["RangeTestCallback"])
    )
    assert len(callback.curves[0]) > 50


def test_trainer(tmp_path):
    pytest.importorskip("transformers", reason="needs transformers")
    import test_finder_transformers

    names = run("Trainer (Hugging Face)", {"trainer": test_finder_transformers.made(tmp_path)})
    assert names["callback"].curves[0].lr[0] == 1e-7


def test_a_recorded_curve(tmp_path, monkeypatch, capsys):
    rates = np.geomspace(1e-6, 10, 100)
    losses = 2.3 - 2 / (1 + np.exp(-3 * (np.log10(rates) + 2.5))) + (rates / 3) ** 2
    rows = [f"{rate},{loss}" for rate, loss in zip(rates, losses, strict=True)]
    (tmp_path / "losses.csv").write_text("\n".join(["lr,loss", *rows]))
    monkeypatch.chdir(tmp_path)
    for command in blocks("A curve that another finder recorded")[0].splitlines():
        cli.main(shlex.split(command)[1:])
        assert "edge" in capsys.readouterr().out


def test_how_far_the_median_of_several_runs_lies():
    table = TEXT.split("| one run within a factor of |")[1].split("\n\n")[0].splitlines()[2:]
    for row in table:
        factor, *medians = (float(cell) for cell in row.strip("| ").split("|"))
        expected = [factor ** (1.25 / n**0.5) for n in (5, 10, 20)]
        assert medians == [round(value, 1) for value in expected]
    faq = (Path(__file__).parents[1] / "docs" / "faq.md").read_text()
    said = re.search(r"scatters (\d)-fold\s+is known within about a factor of ([\d.]+)", faq)
    assert float(said[2]) == round(float(said[1]) ** (1.25 / 10**0.5), 1)
