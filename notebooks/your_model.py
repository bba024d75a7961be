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
# # How far to trust the finder on your own model
#
# One range test gives one number. An **audit** repeats it over initial weights and orders of the
# data and says how much that number varies, and so how far to trust it. Three models that people
# use, each in seconds on a CPU, on scikit-learn's handwritten digits: a ResNet-18 of torchvision, a
# MobileNet of Keras, and a small transformer with AdamW.

# %%
import os

os.environ["KERAS_BACKEND"] = "torch"  # one framework in this process; TensorFlow works the same

import keras
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import lrrt

torch.set_num_threads(1)
pixels, labels = load_digits(return_X_y=True)
images = (pixels / 16.0).astype("float32").reshape(-1, 1, 8, 8)
print(f"{len(images)} images, {len(set(labels))} classes")

# %% [markdown]
# ## ResNet-18, SGD with momentum
#
# `make_model` makes a fresh model, its optimiser and its loss; `make_data` says what it trains on.
# Each is called once for each run, with all random states seeded.

# %%
try:
    from torchvision.models import resnet18
except RuntimeError:
    # A CPU build of PyTorch beside a torchvision built for CUDA lacks two operators: declare them.
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision.models import resnet18


def make_resnet():
    model = resnet18(num_classes=10)
    model.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)  # grey images
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    return model, optimizer, nn.CrossEntropyLoss()


def make_images():
    return {"data": (images, labels), "batch_size": 16}


# %% [markdown]
# Five runs, each with other weights and another order of the images. (20 steps a test keep this
# quick. They are too few to tell a fall of the loss from its noise, and the audit says so; 100 are
# usual.)

# %%
resnet = lrrt.audit(make_resnet, make_images, runs=5, steps=20)
print(resnet)


# %%
def draw(audit):
    """Smoothed curves of all runs and the suggestion of each."""
    figure, ax = plt.subplots(figsize=(7, 3.5))
    for one, suggestion in zip(audit.curves, audit.suggestions, strict=True):
        (line,) = ax.plot(one.lr, one.smoothed(), alpha=0.8)
        if suggestion.lr is not None:
            ax.axvline(suggestion.lr, color=line.get_color(), linestyle=":")
    start = np.median([one.loss[0] for one in audit.curves])
    ax.set(xscale="log", xlabel="learning rate", ylabel="smoothed loss", ylim=(0, 1.5 * start))
    ax.set_title(f"{audit.about['model']}: {audit.verdict[0]}")
    plt.show()


draw(resnet)

# %% [markdown]
# `resnet.report("resnet.html")` writes all this as a page: every run, every rule.
#
# A curve is raw; rules are applied to it afterwards, any of them. On the very same curve they
# disagree:

# %%
curve = resnet.curves[0]
curve.plot()
plt.show()
for suggestion in curve.compare().values():
    print(suggestion)

# %% [markdown]
# Which rule repeats best here? (That alone does not make it right.)

# %%
for summary in resnet.by_rule():
    print(summary)

# %% [markdown]
# ## A MobileNet of Keras
#
# A compiled model brings its own optimiser and loss.


# %%
def make_mobilenet():
    model = keras.applications.MobileNet((32, 32, 1), alpha=0.25, weights=None, classes=10)
    model.compile(keras.optimizers.Adam(), keras.losses.SparseCategoricalCrossentropy())
    return model


def make_large_images():
    large = images.repeat(4, axis=2).repeat(4, axis=3).transpose(0, 2, 3, 1)
    return {"data": (large, labels), "batch_size": 16}


mobilenet = lrrt.audit(make_mobilenet, make_large_images, runs=5, steps=20)
print(mobilenet)
draw(mobilenet)

# %% [markdown]
# ## A small transformer, AdamW
#
# Eight tokens, the rows of a digit; two blocks of attention; weights that decay in one parameter
# group and not in the other. Here the audit also trains, shortly: at the suggestion, at a tenth of
# it and at ten times it.


# %%
class Transformer(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.places = nn.Parameter(0.02 * torch.randn(8, width))
        block = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, images):
        return self.head(self.blocks(self.embed(images.squeeze(1)) + self.places).mean(1))


def make_transformer():
    model = Transformer()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return model, torch.optim.AdamW(groups, lr=1e-3), nn.CrossEntropyLoss()


transformer = lrrt.audit(make_transformer, make_images, runs=5, steps=60, end=1.0, train_steps=30)
print(transformer)
draw(transformer)

# %% [markdown]
# A single test of a model at hand is `lrrt.range_test(model, loss, data, optimizer)`: it puts back
# all that it touches, also amid a training. What varies more, the weights or the order of the data?
# `lrrt.audit(..., vary="weights")` and `vary="order"` hold the other one still.

# %% [markdown]
# On a terminal: `lrrt audit my_package.my_module:make_model --report lr.html`.
