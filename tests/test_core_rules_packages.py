"""Rules against the packages themselves, where they are installed (the study does not need them).

Each package's own code smooths, stops and suggests; only the training step, which would give the
loss, is replaced by a list of losses. They passed with torch-lr-finder 0.2.2, pytorch-ignite 0.5.5,
lightning 2.5.2 and 2.6.6, fastai 2.7.19 and 2.8.12, torchtuples 0.2.2; ktrain 0.41.4,
keras_lr_finder 0.1, fastai 1.0.61, ml4h 0.1.4, NeuralProphet 0.9.0 and 1.0.0rc10, and Ludwig 0.5.5,
whose imports no longer work or are many: of these the finder's class or function alone is run
(``pip install --no-deps`` will do); and with the development versions of NeuralProphet (commit
5e6b231) and of Ultralytics, since no release has what is compared. FastAI.jl is in Julia: its rule
is compared with an account alone (``test_core_rules.py``).
"""

import ast
import math
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
CURVES = 60


def curves():
    """A descent and an explosion at random, with noise; every fifth becomes NaN."""
    for seed in range(CURVES):
        random = np.random.default_rng(seed)
        x = np.log10(LR)
        loss = 3 - random.uniform(0.2, 2) / (1 + np.exp(-2 * (x - random.uniform(-5, -1))))
        loss += 10 ** random.uniform(-4, -1) * random.standard_normal(STEPS)
        loss += np.exp(np.clip((x - random.uniform(-2, 1)) * 3, -50, 9))
        if seed % 3 == 2:  # a loss that falls to zero, and the spikes of small batches
            loss -= loss.min() - 1e-3
            loss += random.exponential(0.2, STEPS) * (random.random(STEPS) < 0.1)
        if seed % 5 == 4:
            loss[random.integers(60, STEPS) :] = np.nan
        yield loss


def recorded_steps(stop_step):
    return STEPS if stop_step is None else 1 + stop_step


# Pairs that need curves of their own are in test_core_rules.py.
@pytest.mark.parametrize("one, other", [("ignite", "torch_lr_finder"), ("fastai1", "blog_fastai")])
def test_the_curves_tell_similar_rules_apart(one, other):
    assert any(replay(one, LR, loss) != replay(other, LR, loss) for loss in curves())


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
        assert len(finder.history["loss"]) == recorded_steps(found.stop_step)


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
        assert len(history["loss"]) == recorded_steps(found.stop_step)
        if found.reason:
            with pytest.raises(RuntimeError, match="unexpected curve shape"):
                finder.lr_suggestion()
        else:
            assert found.min_lr == finder.lr_suggestion()
            compared += 1
    assert compared > CURVES / 2


def lightning_result(package, loss, threshold=4.0):
    """Lightning's own record of a test with these losses, with its own suggestion."""
    import torch

    callback = package._LRCallback(STEPS, early_stop_threshold=threshold)
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
    return finder


def test_lightning():
    package = pytest.importorskip("lightning.pytorch.tuner.lr_finder")
    from lightning import __version__

    version = tuple(int(part) for part in __version__.split(".")[:3])
    rule = "lightning" if version >= (2, 5, 3) else "lightning_index"
    for loss in curves():
        finder = lightning_result(package, loss)
        found = replay(rule, LR, loss)
        assert len(finder.results["loss"]) == recorded_steps(found.stop_step)
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


def test_torchtuples():
    """The callback's own steps; only the model that would give it the loss is replaced."""
    package = pytest.importorskip("torchtuples")
    import torch

    for loss in curves():
        finder = package.callbacks.LRFinder(LR[0], LR[-1], STEPS)
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        finder.model = SimpleNamespace(optimizer=optimizer)
        finder.on_fit_start()
        for value in loss:
            finder.on_batch_start()
            finder.model.batch_loss = torch.tensor(value)
            if finder.on_batch_end():
                break
        found = replay("torchtuples", finder.lrs, loss)
        assert found.max_lr == pytest.approx(finder.get_best_lr(), rel=1e-12)
        assert len(finder.batch_loss) == recorded_steps(found.stop_step)


# ---- packages of another age ------------------------------------------------------------------


def own_class(package: str, file: str, name: str, **names):
    """The class ``name`` of a package's file, with ``names`` for what the file would import."""
    spec = find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    path = Path(spec.origin).parent / file
    if not path.exists():
        pytest.skip(f"this release of {package} has no {file}")
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
        assert len(finder.losses) == recorded_steps(found.stop_step)
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
        if found.reason:
            assert len(rates) == 0
        else:
            assert found.min_lr == rates[np.argmin(changes)]
        assert len(finder.losses) == recorded_steps(found.stop_step)


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
        assert len(recorder.lrs) == recorded_steps(found.stop_step)


@pytest.mark.filterwarnings("ignore")
def test_ml4h():
    choose = own_class("ml4h", "optimizers.py", "_choose_best_learning_rate", np=np)
    find = own_class(
        "ml4h", "optimizers.py", "find_learning_rate", np=np, _choose_best_learning_rate=choose
    )
    for loss in curves():
        values = iter(loss.tolist())
        taken = []

        def fit(*_, values=values, taken=taken, **__):
            taken.append(next(values))
            return SimpleNamespace(history={"loss": taken[-1:]})

        found_by_it = find(MagicMock(fit=fit), None, STEPS)
        found = replay("ml4h", np.geomspace(1e-7, 1e2, STEPS), loss)
        assert found.min_lr == found_by_it
        assert len(taken) == recorded_steps(found.stop_step)


class DoublePrecision(float):
    """A loss with the methods of a tensor that Ludwig calls."""

    def __add__(self, other):
        return DoublePrecision(float(self) + float(other))

    def __rmul__(self, other):
        return DoublePrecision(float(self) * float(other))

    __radd__ = __add__

    def __truediv__(self, other):
        return DoublePrecision(float(self) / float(other))

    def detach(self):
        return self

    cpu = detach

    def numpy(self):
        return float(self)


def test_ludwig():
    """Its ramp is fed in place of its own, which the rule knows nothing of."""
    trainer = own_class(
        "ludwig",
        "models/trainer.py",
        "Trainer",
        BaseTrainer=object,
        LOSS="loss",
        TRAINING="training",
        default_random_seed=42,
        logger=MagicMock(),
        np=np,
        torch=MagicMock(),
    )
    for loss in curves():
        values, rates = iter(loss.tolist()), []
        batcher = MagicMock(last_batch=lambda: False)
        training_set = MagicMock()
        training_set.initialize_batcher.return_value.__enter__.return_value = batcher
        state = MagicMock(epochs=1, base_learning_rate=None)
        state.model.input_features.values.return_value = []
        state.model.output_features.values.return_value = []
        state.train_step = lambda *_, values=values: (DoublePrecision(next(values)), None)
        state.set_optimizer_learning_rate = rates.append
        suggested = trainer.tune_learning_rate(state, None, training_set)
        rates = np.append(1e-8, rates)
        while len(rates) < STEPS:  # it stopped: the rest of the ramp
            rates = np.append(rates, rates[-1] * (1 / rates[-1]) ** (len(rates) / STEPS))
        found = replay("ludwig", rates[:STEPS], loss)
        assert found.min_lr == suggested
        steps_left = sum(1 for _ in values)
        assert STEPS - steps_left == recorded_steps(found.stop_step)


def test_ludwigs_ramp_is_not_exponential():
    """As the rule's docstring says."""
    rates = [1e-8]
    for step in range(99):
        rates.append(rates[-1] * (1 / rates[-1]) ** ((step + 1) / 100))
    assert rates[10] == pytest.approx(3e-5, rel=0.01)
    assert rates[19] < 0.11 and rates[20] > 0.14 and rates[40] > 0.99


@pytest.mark.filterwarnings("ignore")
def test_neuralprophet():
    suggest = own_class(
        "neuralprophet", "utils.py", "smooth_loss_and_suggest", math=math, np=np, log=MagicMock()
    )
    package = pytest.importorskip("lightning.pytorch.tuner.lr_finder")
    for loss in curves():
        finder = lightning_result(package, loss, threshold=None)
        assert replay("neuralprophet", LR, loss).min_lr == suggest(finder.results)[2]


@pytest.mark.filterwarnings("ignore")
def test_neuralprophet_mean():
    suggest = own_class(
        "neuralprophet",
        "utils_lightning.py",
        "smooth_loss_and_suggest",
        math=math,
        np=np,
        log=MagicMock(),
    )
    package = pytest.importorskip("lightning.pytorch.tuner.lr_finder")
    for loss in curves():
        finder = lightning_result(package, loss, threshold=None)
        found = replay("neuralprophet_mean", LR, loss).min_lr
        assert found == pytest.approx(suggest(finder)[2], rel=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_ultralytics_auto(tmp_path):
    torch = pytest.importorskip("torch")
    messages = MagicMock()
    trainer = own_class(
        "ultralytics",
        "engine/trainer.py",
        "BaseTrainer",
        DEFAULT_CFG=SimpleNamespace(warmup_epochs=3.0),
        LOGGER=messages,
        RANK=0,
        TQDM=lambda rates, **_: rates,
        YAML=MagicMock(),
        colorstr=str,
        csv=MagicMock(),
        deepcopy=lambda value: value,
        math=math,
        np=np,
        open=MagicMock(),
        torch=torch,
    )
    if not hasattr(trainer, "_find_lr"):
        pytest.skip("this release of ultralytics has no lr0=auto")
    answers = 0
    lr = np.logspace(-6, 0, STEPS)
    for loss in curves():
        values, state = iter(loss.tolist()), MagicMock()
        state.__class__ = trainer
        state.train_loader = MagicMock(__len__=lambda _: 100, __iter__=lambda _: iter(range(100)))
        state.accumulate, state.epochs, state.world_size, state.device = 1, 10, 1, "cpu"
        state.optimizer.param_groups = [{"lr": 0.1}]
        state.args = SimpleNamespace(lr0="auto", warmup_epochs=3.0)
        state.model.state_dict.return_value = {}
        state.save_dir = tmp_path

        def forward(_, values=values):
            return MagicMock(), {"loss": torch.tensor(next(values), dtype=torch.float64)}

        state.forward_batch = forward
        precision = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # its total, so that no loss is rounded
        try:
            trainer._find_lr(state)
        finally:
            torch.set_default_dtype(precision)
        found = replay("ultralytics_auto", lr, loss)
        assert (found.max_lr or "auto") == state.args.lr0
        assert STEPS - sum(1 for _ in values) == recorded_steps(found.stop_step)
        answers += found.max_lr is not None
    assert answers > CURVES / 4
