"""docs/moving_over.md: its right-hand sides run; both sides agree where the other is installed.

The table for Keras runs in live_keras.py.
"""

import re
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import lrrt
from lrrt.core.smoothing import ema
from lrrt.finder.recorded_curves import unsmooth_ema

PAGE = Path(__file__).parents[1] / "docs" / "moving_over.md"


def rows(section: str) -> list[str]:
    """The code of the right-hand side of each row of the section's table."""
    text = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    table = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(table) >= 3 and all(line.count(" | ") == 1 for line in table)
    return ["\n".join(re.findall(r"`([^`]+)`", line.split(" | ")[1])) for line in table]


@pytest.fixture
def names():
    """What the tables take for granted: a model, its loss and optimiser, loaders."""
    torch = pytest.importorskip("torch")
    import matplotlib.pyplot

    matplotlib.use("agg")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randn(96, 6)
    data = torch.utils.data.TensorDataset(x, x[:, :3].argmax(1))
    loader = torch.utils.data.DataLoader(data, 16)
    model = torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3))
    yield {
        "lrrt": lrrt,
        "torch": torch,
        "model": model,
        "criterion": torch.nn.CrossEntropyLoss(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        "trainloader": loader,
        "valloader": loader,
        "scaler": torch.amp.GradScaler("cpu"),
    }
    matplotlib.pyplot.close("all")


def run(section, names):
    for code in rows(section):
        exec(compile(code, f"{PAGE.name}, {section}", "exec"), names)
    return names["curve"]


def test_fastai(names):
    dls = SimpleNamespace(train=names["trainloader"])
    names["learn"] = SimpleNamespace(
        model=names["model"], loss_func=names["criterion"], dls=dls, opt=names["optimizer"]
    )
    assert len(run("fastai 2", names)) > 50


@pytest.mark.parametrize("section", ["torch-lr-finder", "Ignite"])
def test_torch(names, section):
    assert len(run(section, names)) > 50


def test_lightning(names):
    torch, inner = names["torch"], names["model"]

    class Module(torch.nn.Module):  # as much of a LightningModule as the table uses
        def __init__(self):
            super().__init__()
            self.inner = inner

        def training_step(self, batch, batch_index):
            return names["criterion"](self.inner(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters())

    names["model"] = Module()
    if not find_spec("pytorch_lightning") and not find_spec("lightning"):
        lacking = rows("Lightning")[-1]  # run by test_finder_lightning.py, too
        assert "RangeTestCallback" in lacking
        names["curve"] = None
        for code in rows("Lightning")[:-1]:
            exec(code, names)
        assert len(names["curve"]) > 50
    else:
        run("Lightning", names)


def test_each_row_of_what_others_do_names_a_test_of_ours():
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("*.py"))
    named = re.findall(r"`(test_\w+)` \|", PAGE.read_text())
    assert len(named) >= 15 and all(f"def {name}(" in tests for name in named)


def test_a_flat_loss_stays_flat(names):
    torch = names["torch"]
    flat = lrrt.range_test(
        names["model"],
        lambda outputs, targets: 1.0 + 0.0 * outputs.sum(),
        names["trainloader"],
        names["optimizer"],
    )
    assert torch.tensor(flat.loss).eq(1).all() and flat.flaw


def test_averages_of_the_users_own_training_see_no_test(names):
    torch, model = names["torch"], names["model"]
    pytest.importorskip("ignite")
    from ignite.engine import create_supervised_trainer
    from ignite.handlers import EMAHandler, FastaiLRFinder

    trainer = create_supervised_trainer(model, names["optimizer"], names["criterion"])
    average = EMAHandler(model, momentum=0.1)
    average.attach(trainer)
    before = [value.clone() for value in average.ema_model.state_dict().values()]

    def unmoved():
        return all(map(torch.equal, before, average.ema_model.state_dict().values()))

    curve = lrrt.range_test(model, names["criterion"], names["trainloader"], names["optimizer"])
    assert unmoved() and len(curve) > 50
    parts = {"model": model, "optimizer": names["optimizer"]}
    with FastaiLRFinder().attach(trainer, parts, num_iter=100) as finding:
        finding.run(names["trainloader"])
    assert not unmoved()


def test_each_loss_stands_at_the_rate_of_its_step(names):
    model, optimizer, loader = names["model"], names["optimizer"], names["trainloader"]
    rates = []
    optimizer.register_step_pre_hook(lambda made, *_: rates.append(made.param_groups[0]["lr"]))
    curve = lrrt.range_test(model, names["criterion"], loader, optimizer, end=1, stop=None)
    assert rates[: len(curve)] == curve.lr.tolist() and curve.lr[-1] == 1  # then its checks
    pytest.importorskip("ignite")
    from ignite.engine import create_supervised_trainer
    from ignite.handlers import FastaiLRFinder

    rates.clear()
    trainer = create_supervised_trainer(model, optimizer, names["criterion"])
    finder, options = FastaiLRFinder(), {"end_lr": 1.0, "num_iter": 100, "diverge_th": 1e9}
    with finder.attach(trainer, {"model": model, "optimizer": optimizer}, **options) as finding:
        finding.run(loader, max_epochs=20)
    recorded = finder.get_results()["lr"]
    assert len(recorded) == 101 and recorded[:-1] == rates[1:] and recorded[-1] > 1


def test_a_range_test_writes_no_file(names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lrrt.range_test(
        names["model"], names["criterion"], names["trainloader"], names["optimizer"]
    ).suggest()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow(5)
def test_a_suggestion_for_a_network_without_batch_norm_trains(names):
    torch, nn = names["torch"], names["torch"].nn
    x, y = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(y)
    data = torch.utils.data.TensorDataset(x, y)
    loader = torch.utils.data.DataLoader(data, 64, shuffle=True, generator=torch.Generator())

    def made():
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(128, 10)),
        )
        return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def accuracy(rate):
        model, optimizer = made()
        optimizer.param_groups[0]["lr"] = rate
        for _ in range(5):
            for images, labels in loader:
                optimizer.zero_grad()
                names["criterion"](model(images), labels).backward()
                optimizer.step()
        return (model(x).argmax(1) == y).float().mean().item()

    model, optimizer = made()
    curve = lrrt.range_test(model, names["criterion"], loader, optimizer)
    assert accuracy(curve.suggest().lr) > 0.8
    assert accuracy(curve.suggest("torch_lr_finder").lr) < 0.2


def test_other_trainers_on_plain_pytorch(names):
    """The rows that need no package beside; those with one run in test_finder_peers.py."""
    lines = dict(zip(*_table("Other trainers"), strict=True))
    same = lambda *parts: parts  # noqa: E731  as accelerate's prepare gives them back
    names |= {"loader": names["trainloader"], "accelerator": SimpleNamespace(prepare=same)}
    x, y = names["trainloader"].dataset.tensors
    names |= {"X": x.numpy(), "y": y.numpy()}
    names["net"] = SimpleNamespace(
        module_=names["model"], criterion_=names["criterion"], optimizer_=names["optimizer"]
    )
    for title in ("accelerate", "peft", "several"):
        code = next(code for name, code in lines.items() if name.startswith(title))
        exec(code, names)
    exec(next(c for n, c in lines.items() if n.startswith("skorch")).replace("128", "16"), names)
    assert len(names["curve"]) > 50


def _table(section):
    text = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    table = [line for line in text.splitlines() if line.startswith("| ")][2:]
    titles = [line.split(" | ")[0].strip("| ") for line in table]
    return titles, ["\n".join(re.findall(r"`([^`]+)`", line.split(" | ")[1])) for line in table]


# ---- both sides -------------------------------------------------------------------------------


def test_torch_lr_finder_sees_the_same_losses(names):
    package = pytest.importorskip("torch_lr_finder")
    model, optimizer, criterion = names["model"], names["optimizer"], names["criterion"]
    ours = lrrt.range_test(
        model, criterion, names["trainloader"], optimizer, start=1e-5, end=10, stop=None
    )
    finder = package.LRFinder(model, optimizer, criterion)
    finder.range_test(
        names["trainloader"], start_lr=1e-5, end_lr=10, num_iter=100, smooth_f=0, diverge_th=1e9
    )
    assert finder.history["lr"] == pytest.approx(ours.lr, rel=1e-6)
    assert np.allclose(finder.history["loss"][: len(ours)], ours.loss, rtol=1e-5)


def test_fastai_sees_the_same_losses(names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learner = pytest.importorskip("fastai.learner")
    pytest.importorskip("fastai.callback.schedule")  # adds lr_find
    from fastai.data.core import DataLoaders
    from fastai.optimizer import OptimWrapper

    torch, model = names["torch"], names["model"]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    end = 1e-7 * 1e8 ** (99 / 100)  # fastai's ramp would reach its end one step later
    ours = lrrt.range_test(
        model, names["criterion"], names["trainloader"], optimizer, end=end, stop=None
    )
    made = learner.Learner(
        DataLoaders(names["trainloader"], names["valloader"], device="cpu"),
        model,
        loss_func=names["criterion"],
        wd=0.0,
        opt_func=lambda p, **_: OptimWrapper(p, torch.optim.SGD, momentum=0.9),
    )
    with made.no_bar(), made.no_logging():
        found = made.lr_find(show_plot=False, stop_div=False)
    assert np.asarray(made.recorder.lrs) == pytest.approx(ours.lr, rel=1e-5)
    assert np.allclose(np.asarray(made.recorder.losses), ema(ours.loss), rtol=1e-4)
    assert not list((tmp_path / "models").iterdir())  # an empty folder is left
    assert found.valley == pytest.approx(ours.suggest("fastai_valley").lr, rel=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_lightning_sees_the_same_losses(names, tmp_path, monkeypatch):
    lightning = pytest.importorskip("pytorch_lightning")
    from pytorch_lightning.tuner import Tuner

    torch, criterion, inner = names["torch"], names["criterion"], names["model"]

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.inner, self.lr = inner, 0.1

        def training_step(self, batch, batch_index):
            return criterion(self.inner(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)

    module = Module()
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=100,
        default_root_dir=tmp_path,
    )
    finder = Tuner(trainer).lr_find(
        module, names["trainloader"], early_stop_threshold=None, update_attr=False
    )
    raw = unsmooth_ema(np.array(finder.results["loss"]), offset=1)
    lrs = np.array(finder.results["lr"])
    # Its ramp takes two steps at once after the first.
    monkeypatch.setattr("lrrt.finder.range_test.grid", lambda ramp, steps: lrs)
    ours = lrrt.range_test(
        module,
        data=names["trainloader"],
        optimizer=module.configure_optimizers(),
        stop=None,
        batch_loss=lambda model, batch: model.training_step(batch, 0),
        steps=len(lrs),
    )
    assert len(lrs) == 100 and np.allclose(raw, ours.loss, rtol=1e-3)
    assert finder.suggestion() == pytest.approx(ours.suggest("lightning").lr, rel=1e-5)
