"""Range tests of small models: ours, a bare loop by hand and torch-lr-finder; Keras's ``fit``.

``small_models.py [torch] [keras] [--rounds N]``, in the environment of the peers. 100 steps, the
stop off, one thread, CPU seconds; all in turns within each round, the first round not counted.
Losses must be the loop's to the bit before a time counts. A ratio is a geometric mean over rounds
with its 95 % interval (Student's t of the logarithms). Writes ``results/small_models.json`` and
prints a table.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from machine import describe  # noqa: E402
from run import interval, print_ratios  # noqa: E402

START, END, STEPS, BATCH = 1e-6, 1e-1, 100, 64
RATES = np.geomspace(START, END, STEPS).tolist()
OUTPUT = HERE / "results" / "small_models.json"


def torch_cases() -> dict:
    """By name: makers of the model, its optimiser and its data."""
    import torch
    from torch import nn

    torch.set_num_threads(1)

    def mlp():
        layers = [nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(128, 10))

    def cnn():
        layers = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))

    def thin():
        middle = [layer for _ in range(40) for layer in (nn.Linear(16, 16), nn.ReLU())]
        return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), *middle, nn.Linear(16, 10))

    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)

    return {
        "MLP, SGD": (mlp, sgd, (64,)),
        "MLP, AdamW": (mlp, torch.optim.AdamW, (64,)),
        "small CNN, SGD": (cnn, sgd, (1, 8, 8)),
        "42 thin layers, SGD": (thin, sgd, (64,)),
    }


def by_hand(model, criterion, data, optimizer) -> list[float]:
    model.train()
    losses, batches = [], iter(data)
    for rate in RATES:
        try:
            inputs, targets = next(batches)
        except StopIteration:
            batches = iter(data)
            inputs, targets = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def ours(model, criterion, data, optimizer) -> list[float]:
    import lrrt

    options = {"start": START, "end": END, "steps": STEPS, "stop": None}
    return lrrt.range_test(model, criterion, data, optimizer, **options).loss.tolist()


def torch_lr_finder(model, criterion, data, optimizer) -> list[float]:
    from torch_lr_finder import LRFinder

    finder = LRFinder(model, optimizer, criterion)
    options = {"smooth_f": 0, "diverge_th": 1e9, "num_iter": STEPS}
    finder.range_test(data, start_lr=START, end_lr=END, **options)
    finder.reset()
    return finder.history["loss"]


CONTESTANTS = {"ours": ours, "hand": by_hand, "torch-lr-finder": torch_lr_finder}


def torch_round(case: tuple, first: int, ready: bool = False) -> dict[str, float]:
    """CPU seconds of each, beginning with the ``first``; of ours and the loop by hand on batches
    that are ``ready`` in a list."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    make, optimiser, shape = case
    seconds, losses = {}, {}
    names = ["ours", "hand"] if ready else list(CONTESTANTS)
    for name in names[first % len(names) :] + names[: first % len(names)]:
        torch.manual_seed(0)
        data = TensorDataset(torch.randn(1024, *shape), torch.randint(0, 10, (1024,)))
        model = make()
        optimizer = optimiser(model.parameters())
        loader = DataLoader(data, BATCH, shuffle=True)
        loader = list(loader) if ready else loader
        silent = io.StringIO()
        with contextlib.redirect_stderr(silent), contextlib.redirect_stdout(silent):
            before = time.process_time()
            found = CONTESTANTS[name](model, torch.nn.CrossEntropyLoss(), loader, optimizer)
            seconds[name] = time.process_time() - before
        losses[name] = found
    assert losses["ours"] == losses["hand"], "ours is another training than the loop by hand"
    return seconds


def restoring_in_steps(case: tuple) -> float:
    """What keeping a model, of which a step was taken, and putting it back costs, in its steps."""
    import torch

    from lrrt.finder.torch_state import preserve_model

    make, optimiser, shape = case
    model = make()
    optimizer = optimiser(model.parameters())
    inputs, targets = torch.randn(BATCH, *shape), torch.randint(0, 10, (BATCH,))

    def step():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    def seconds(action) -> float:
        times = []
        for _ in range(60):
            before = time.process_time()
            action()
            times.append(time.process_time() - before)
        return statistics.median(times[10:])

    def kept():
        with preserve_model([model], optimizer):
            pass

    step()
    return seconds(kept) / seconds(step)


def keras_rounds(rounds: int) -> dict[str, list[float]]:
    """CPU seconds of ``fit`` with a callback, of our first test of a model, and of its second."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras
    import tensorflow as tf

    import lrrt

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    random = np.random.default_rng(0)
    x, y = (
        random.normal(size=(STEPS * 16, 64)).astype("float32"),
        random.integers(0, 10, STEPS * 16),
    )

    class Ramp(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.losses = []

        def on_train_batch_begin(self, batch, logs=None):
            self.model.optimizer.learning_rate.assign(RATES[batch])

        def on_train_batch_end(self, batch, logs=None):
            self.losses.append(logs["loss"])

    def model():
        dense = keras.layers.Dense
        layers = [keras.Input((64,)), dense(128, "relu"), dense(128, "relu"), dense(10)]
        made = keras.Sequential(layers)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        made.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
        return made

    def fit(made):
        weights = made.get_weights()
        made.fit(x, y, batch_size=16, callbacks=[Ramp()], verbose=0)
        made.set_weights(weights)

    def test(made):
        options = {"start": START, "end": END, "stop": None}
        lrrt.range_test(made, data=(x, y), batch_size=16, **options)

    found: dict[str, list[float]] = {}
    for _ in range(rounds + 1):
        for name, action in (("fit", fit), ("ours", test)):
            made = model()
            for again in ("first", "second"):
                before = time.process_time()
                action(made)
                found.setdefault(f"{name}, {again}", []).append(time.process_time() - before)
    return {name: times[1:] for name, times in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=["torch", "keras"])
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    if options.kinds == ["keras rounds"]:  # a process where TensorFlow is alone
        print(json.dumps(keras_rounds(options.rounds)))
        return
    before, results = describe(), {}
    if "torch" in options.kinds:
        for name, case in torch_cases().items():
            rounds = [torch_round(case, first) for first in range(options.rounds + 1)][1:]
            row = {"seconds": {k: [r[k] for r in rounds] for k in CONTESTANTS}}
            seconds = {k: np.array(v) for k, v in row["seconds"].items()}
            row["ours against hand"] = interval(seconds["ours"] / seconds["hand"])
            ready = [torch_round(case, first, ready=True) for first in range(options.rounds)]
            row["ours against hand, batches ready"] = interval(
                np.array([r["ours"] / r["hand"] for r in ready])
            )
            row["torch-lr-finder against ours"] = interval(
                seconds["torch-lr-finder"] / seconds["ours"]
            )
            row["keeping and restoring, in steps"] = restoring_in_steps(case)
            results[name] = row
    if "keras" in options.kinds:
        command = [sys.executable, __file__, "keras rounds", "--rounds", str(options.rounds // 2)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = {k: np.array(v) for k, v in json.loads(done.stdout.splitlines()[-1]).items()}
        results["Keras, MLP"] = {
            "seconds": {k: v.tolist() for k, v in seconds.items()},
            "fit against ours, first": interval(seconds["fit, first"] / seconds["ours, first"]),
            "fit against ours, second": interval(seconds["fit, second"] / seconds["ours, second"]),
        }
    print_ratios(results)
    record = {"results": results, "rounds": options.rounds, "before": before, "after": describe()}
    OUTPUT.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
