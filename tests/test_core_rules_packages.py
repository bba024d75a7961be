"""Rules against the packages themselves, where they are installed (the study does not need them).

Each package's own code smooths, stops and suggests; only the training step, which would give the
loss, is replaced by a list of losses. They passed with torch-lr-finder 0.2.2, pytorch-ignite 0.5.5,
lightning 2.5.2 and 2.6.6, fastai 2.7.19 and 2.8.12; ktrain 0.41.4, keras_lr_finder 0.1 and fastai
1.0.61, whose imports no longer work: of these the finder's class alone is run (``pip install
--no-deps`` will do).
"""

import ast
import re
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest

from lrrt.core.rules import replay
from lrrt.core.smoothing import ema

STEPS = 100
LR = np.geomspace(1e-7, 10, STEPS)


def curves():
    for seed in range(25):
        random = np.random.default_rng(seed)
        x = np.log10(LR)
        loss = 3 - random.uniform(0.2, 2) / (1 + np.exp(-2 * (x - random.uniform(-5, -1))))
        loss += 10 ** random.uniform(-4, -1) * random.standard_normal(STEPS)
        loss += np.exp(np.clip((x - random.uniform(-2, 1)) * 3, -50, 9))
        if seed % 5 == 4:
            loss[random.integers(60, STEPS) :] = np.nan
        yield loss


@pytest.mark.filterwarnings("ignore")
def test_torch_lr_finder():
    package = pytest.importorskip("torch_lr_finder")
    import matplotlib.pyplot as plt
    import torch

    model = torch.nn.Linear(1, 1)
    data = torch.utils.data.TensorDataset(torch.zeros(1, 1), torch.zeros(1, 1))
    loader = torch.utils.data.DataLoader(data)
    for loss in curves():
        optimizer = torch.optim.SGD(model.parameters(), lr=float(LR[0]))
        finder = package.LRFinder(model, optimizer, torch.nn.MSELoss())
        values = iter(loss.tolist())
        finder._train_batch = lambda *_, values=values, **__: next(values)
        finder.range_test(loader, end_lr=float(LR[-1]), num_iter=STEPS)
        _, suggested = finder.plot(ax=plt.figure().add_subplot())
        plt.close("all")
        found = replay("torch_lr_finder", LR, loss)
        assert found.min_lr == pytest.approx(suggested, rel=1e-6)
        assert len(finder.history["loss"]) == 1 + (found.stop_step or STEPS - 1)


@pytest.mark.filterwarnings("ignore")
def test_ignite():
    handlers = pytest.importorskip("ignite.handlers")
    import torch
    from ignite.engine import Engine

    compared = 0
    for loss in curves():
        model = torch.nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=float(LR[0]))
        values = iter(loss.tolist())

        def process(*_, values=values, optimizer=optimizer):
            optimizer.step()  # the scheduler asks for one
            return next(values)

        trainer, finder = Engine(process), handlers.FastaiLRFinder()
        state = {"model": model, "optimizer": optimizer}
        with finder.attach(trainer, state, num_iter=STEPS - 1, end_lr=float(LR[-1])) as attached:
            attached.run([0] * STEPS)
        history = finder.get_results()
        found = replay("ignite", np.array(history["lr"]), loss[: len(history["lr"])])
        assert len(history["loss"]) == 1 + (found.stop_step or STEPS - 1)
        if found.reason:
            with pytest.raises(RuntimeError, match="unexpected curve shape"):
                finder.lr_suggestion()
        else:
            assert found.min_lr == finder.lr_suggestion()
            compared += 1
    assert compared > 15


def test_lightning():
    package = pytest.importorskip("lightning.pytorch.tuner.lr_finder")
    import torch
    from lightning import __version__

    version = tuple(int(part) for part in __version__.split(".")[:3])
    rule = "lightning" if version >= (2, 5, 3) else "lightning_index"
    for loss in curves():
        callback = package._LRCallback(STEPS)
        trainer = SimpleNamespace(
            fit_loop=SimpleNamespace(batch_idx=0),
            accumulate_grad_batches=1,
            global_step=0,
            should_stop=False,
            strategy=SimpleNamespace(broadcast=lambda value: value),
            lr_scheduler_configs=[SimpleNamespace(scheduler=SimpleNamespace(lr=[0.0]))],
        )
        for lr, value in zip(LR, loss, strict=True):
            trainer.lr_scheduler_configs[0].scheduler.lr = [lr]
            callback.on_train_batch_start(trainer, None, None, trainer.global_step)
            trainer.global_step += 1
            outputs = {"loss": torch.tensor(value)}
            callback.on_train_batch_end(trainer, None, outputs, None, trainer.global_step - 1)
            if trainer.should_stop:
                break
        finder = package._LRFinder("exponential", LR[0], LR[-1], STEPS)
        finder.results = {"lr": callback.lrs, "loss": callback.losses}
        found = replay(rule, LR, loss)
        assert len(callback.losses) == 1 + (found.stop_step or STEPS - 1)
        assert found.min_lr == finder.suggestion()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["steep", "minimum", "valley", "slide"])
def test_fastai(name):
    schedule = pytest.importorskip("fastai.callback.schedule")
    import torch

    for loss in curves():
        found = replay(f"fastai_{name}", LR, loss)
        end = None if found.stop_step is None else found.stop_step + 1
        lr, smoothed = (torch.tensor(a[:end][10:-5]).float() for a in (LR, ema(loss)))
        whole = ~torch.isnan(smoothed)
        suggested, _ = getattr(schedule, name)(lr[whole], smoothed[whole], STEPS)
        assert (found.min_lr or found.max_lr) == pytest.approx(suggested, rel=1e-6)


# ---- packages of another age ------------------------------------------------------------------


def own_class(package: str, file: str, name: str, **names):
    """The class ``name`` of a package's file, with ``names`` for what the file would import."""
    spec = find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    path = Path(spec.origin).parent / file
    found = next(n for n in ast.parse(path.read_text()).body if getattr(n, "name", "") == name)
    postponed = ast.ImportFrom("__future__", [ast.alias("annotations")], 0)
    module = ast.fix_missing_locations(ast.Module([postponed, found], []))
    exec(compile(module, str(path), "exec"), names)
    return names[name]


def fed(finder, loss):
    """A callback for Keras, its test over: its learning rate is a list of one number."""
    rate = [0.0]
    finder.model = SimpleNamespace(optimizer=SimpleNamespace(lr=rate), stop_training=False)
    finder.lr_mult = 1.0
    for lr, value in zip(LR.tolist(), loss.tolist(), strict=True):
        rate[0] = lr
        finder.on_batch_end(0, {"loss": value})
        if finder.model.stop_training:
            break
    return finder


KERAS_2 = SimpleNamespace(get_value=lambda rate: rate[0], set_value=lambda rate, value: None)


@pytest.mark.filterwarnings("ignore")
def test_ktrain():
    package = own_class(
        "ktrain",
        "lroptimize/lrfinder.py",
        "LRFinder",
        K=KERAS_2,
        U=SimpleNamespace(DEFAULT_BS=32),
        np=np,
        warnings=MagicMock(),
    )
    for loss in curves():
        finder = fed(package(None), loss)
        finder._compute_stats()
        steepest, lowest, valley = finder.estimate_lr()
        found = replay("ktrain", LR, loss)
        assert (found.min_lr, found.max_lr) == (steepest, pytest.approx(lowest))
        assert len(finder.losses) == 1 + (STEPS - 1 if found.stop_step is None else found.stop_step)
        assert replay("ktrain_valley", LR, loss).max_lr == valley


def test_keras_lr_finder():
    plots = MagicMock()
    package = own_class(
        "keras_lr_finder", "lr_finder.py", "LRFinder", K=KERAS_2, math=np, plt=plots
    )
    for loss in curves():
        finder = fed(package(None), loss)
        finder.plot_loss_change(sma=1)  # it suggests the lowest point of this plot
        rates, changes = plots.plot.call_args.args
        found = replay("keras_lr_finder", LR, loss)
        assert found.min_lr == rates[np.argmin(changes)]
        assert len(finder.losses) == 1 + (STEPS - 1 if found.stop_step is None else found.stop_step)


def test_fastai1(capsys):
    if not find_spec("fastai") or not metadata.version("fastai").startswith("1."):
        pytest.skip("fastai 1 is not installed")
    torch = pytest.importorskip("torch")
    names = {"LearnerCallback": object, "torch": torch, "num_distrib": lambda: 1}
    smoothing = own_class("fastai", "callback.py", "SmoothenValue")
    finding = own_class("fastai", "callbacks/lr_finder.py", "LRFinder", **names)
    plots = MagicMock()
    plots.subplots.return_value = MagicMock(), MagicMock()
    recording = own_class(
        "fastai",
        "basic_train.py",
        "Recorder",
        np=np,
        plt=plots,
        IN_NOTEBOOK=True,
        ifnone=lambda a, b: b if a is None else a,
        defaults=SimpleNamespace(return_fig=False),
        **names,
    )
    for loss in curves():
        smoother, finder = smoothing(0.98), finding.__new__(finding)
        recorder = recording.__new__(recording)
        recorder.lrs, recorder.losses = [], []
        finder.opt, finder.stop_div, finder.stop, finder.best_loss = MagicMock(), True, False, 0.0
        finder.sched = SimpleNamespace(step=lambda: 0.0, is_done=False)
        for step, value in enumerate(torch.tensor(loss)):
            smoother.add_value(value)
            recorder.lrs.append(LR[step])
            recorder.losses.append(smoother.smooth)
            if finder.on_batch_end(iteration=step, smooth_loss=smoother.smooth):
                break
        recorder.plot(suggestion=True)
        found = replay("fastai1", LR, loss)
        assert found.min_lr == recorder.min_grad_lr
        (printed,) = re.findall("divided by 10: (.*)", capsys.readouterr().out)
        assert found.max_lr == pytest.approx(float(printed), rel=0.01)
        assert len(recorder.lrs) == 1 + (STEPS - 1 if found.stop_step is None else found.stop_step)
