# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A data set, a network and a rule of your own
#
# Each is one module, found by its name; nothing is registered and no other file is edited. In a
# checkout they go to `src/lrrt/datasets/`, `src/lrrt/core/networks/` and `src/lrrt/core/rules/`.
# Here they are written to a temporary folder, which the packages are told to look into as well.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import lrrt.core.networks
import lrrt.core.rules
import lrrt.datasets
from lrrt import plugins
from lrrt.config import DataSection
from lrrt.core.protocol import Protocol, Ramp
from lrrt.finder.audit import Audit
from lrrt.runs.execute import execute
from lrrt.runs.spec import RunSpec

folder = Path(tempfile.mkdtemp())


def add(package, name, code):
    place = folder / package.__name__
    place.mkdir(exist_ok=True)
    (place / f"{name}.py").write_text(code)
    if str(place) not in package.__path__:
        package.__path__.append(str(place))
    print(f"{package.__name__}: {', '.join(plugins.names(package.__name__))}")


# %% [markdown]
# ## A data set: `load(config) -> Dataset`
#
# Images are uint8, (images, height, width, channels). Two classes here: dark images with a bright
# bar that stands or lies. The seed is the configuration's, so that equal configurations give equal
# images.

# %%
add(
    lrrt.datasets,
    "bars",
    '''"""Bars that stand (0) or lie (1), on noise."""

import numpy as np

from lrrt.datasets import Dataset, pixel_statistics

SIZE = 16


def load(config):
    train = images(config.train_images, [config.seed, 0])
    test = images(config.test_images, [config.seed, 1])
    return Dataset(
        *train, *test, *pixel_statistics(train[0]), ("standing", "lying"), "bars on noise"
    )


def images(count, seed):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 120, (count, SIZE, SIZE, 1), dtype=np.uint8)
    labels = random.integers(0, 2, count)
    for image, label, place in zip(pixels, labels, random.integers(2, SIZE - 2, count)):
        bar = image[:, place] if label == 0 else image[place]
        bar += 80
    return pixels, labels
''',
)

# %%
dataset = lrrt.datasets.load(DataSection(name="bars", train_images=640, test_images=64))
figure, axes = plt.subplots(1, 6, figsize=(8, 1.6))
for ax, image, label in zip(axes, dataset.train_images, dataset.train_labels, strict=False):
    ax.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255)
    ax.set_title(dataset.classes[label], fontsize=9)
    ax.axis("off")
plt.show()

# %% [markdown]
# ## A network: `Model`, `nodes(model, shape, classes)` and `validate(model)`
#
# A network is data, a list of nodes, which every backend builds and into which the same weights can
# be loaded. Its parameters are the fields of its `Model`.

# %%
add(
    lrrt.core.networks,
    "plain",
    '''"""``depth`` convolutions with batch norm, no shortcuts."""

from dataclasses import dataclass

from lrrt.core.network import Node
from lrrt.core.protocol import ModelSection
from lrrt.errors import InputError


@dataclass
class Model(ModelSection):
    name: str = "plain"
    depth: int = 3
    width: int = 8


def validate(model):
    if not 1 <= model.depth <= 100:
        raise InputError("model.depth", model.depth, "from 1 to 100")


def nodes(model, shape, classes):
    validate(model)
    found, before, channels = [], "input", shape[-1]
    for i in range(model.depth):
        found += [
            Node(f"conv{i}", "conv", (before,), model.width, channels, kernel=3),
            Node(f"norm{i}", "batch_norm", (f"conv{i}",), model.width, model.width),
            Node(f"relu{i}", "relu", (f"norm{i}",), model.width),
        ]
        before, channels = f"relu{i}", model.width
    return [
        *found,
        Node("pool", "global_average_pool", (before,), model.width),
        Node("dense", "dense", ("pool",), classes, model.width),
    ]
''',
)

# %% [markdown]
# A run is a specification; the same one gives the same bits. Ten range tests of 60 steps, each with
# other weights and another order:

# %% tags=["picture"]
protocol = Protocol(augmentation="none", flip=False, ramp=Ramp(end=100.0, steps=60))


def range_test(seed):
    spec = RunSpec(
        kind="range_test",
        backend="torch",
        protocol=protocol,
        model=plugins.find("lrrt.core.networks", "plain", "model.name").Model(depth=3),
        data_digest=dataset.digest,
        weights_seed=seed,
        order_seed=seed,
        batch_size=32,
        steps=60,
    )
    return lrrt.Curve(**execute(spec, dataset).arrays)


curves = [range_test(seed) for seed in range(10)]
ax = curves[0].plot("fastai_valley")
plt.show()

# %% [markdown]
# ## A rule: `suggest(lr, loss) -> Suggestion`
#
# A rule gets what a finder would have recorded, raw. It smooths and stops by itself, gives a
# minimum and a maximum or one of them, or abstains with a reason; it never raises. This one takes
# the learning rate at which the smoothed loss has fallen half of the way to its lowest point.

# %%
add(
    lrrt.core.rules,
    "half_way",
    '''"""The LR from which on the smoothed loss has fallen by more than half of its whole fall."""

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.smoothing import ema


def suggest(lr, loss):
    smoothed = ema(loss)
    finite = np.isfinite(smoothed)
    if not finite.any() or not finite[0]:
        return abstain("the loss is not finite from the first step on")
    smoothed = smoothed[: finite.argmin() if not finite.all() else None]
    lowest = smoothed.argmin()
    start = smoothed[: max(1, lowest // 4)].mean()
    if not smoothed[lowest] < 0.95 * start:
        return abstain("the loss does not fall by a twentieth")
    half = (start + smoothed[lowest]) / 2
    above = np.flatnonzero(smoothed[: lowest + 1] > half)
    return Suggestion(None, float(lr[above[-1] + 1]))
''',
)

# %% [markdown]
# It is now one of the rules of `lrrt rules`, of `curve.suggest`, of every audit and of the study's
# report. Does it repeat better than others?

# %%
audit = Audit(tuple(curves), tuple(range(10)), tuple(range(10)), rule="half_way")
for summary in audit.by_rule():
    print(summary)
print()
print("\n".join(audit.verdict))

# %% [markdown]
# For a study, give the data set and the network a file each in `conf/data/` and `conf/model/`
# (`name: bars`, ...), then `lrrt compose data=bars model=plain` and `dvc repro`. The tests check of
# every rule that it neither warns, nor raises, nor changes its arguments, on any curve
# (`tests/test_core_rules.py`).
