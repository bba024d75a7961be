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
# # What a learning rate range test is
#
# A range test trains for at most one epoch and raises the learning rate (LR) at every batch. Where
# the loss starts to fall, falls fastest and finally explodes is read as a usable range of LRs. Here
# it is on a network small enough to be written out in NumPy, on scikit-learn's handwritten digits.

# %%
import numpy as np
from IPython.display import Image, display
from ipywidgets import FloatSlider, interact
from sklearn.datasets import load_digits

from lrrt import plugins
from lrrt.core.protocol import Ramp
from lrrt.core.ramp import grid
from lrrt.core.rules import replay
from lrrt.core.smoothing import ema
from lrrt.report import style, wording

pixels, labels = load_digits(return_X_y=True)
images = (pixels / 16.0).astype(np.float64)  # 1797 images of 8 x 8 pixels
BATCH, STEPS = 16, 100  # 1600 images: no image comes twice

# %% [markdown]
# ## The ramp
# 100 learning rates from 1e-7 to 100, each a constant factor above the one before.

# %%
lrs = grid(Ramp(start=1e-7, end=100.0, shape="exponential", end_at="last"), STEPS)
factor = lrs[1] / lrs[0]
print(f"{lrs[0]:.1e}, {lrs[1]:.1e}, ..., {lrs[-1]:.0f}: a factor of {factor:.2f} each step")


# %% [markdown]
# ## One step of training
# A hidden layer of 64 units, ReLU, softmax, cross-entropy; SGD with momentum. The loss that counts
# is that of the batch *before* the update.


# %%
def initial_weights(seed):
    """He-uniform kernels, zero biases, zero velocities."""
    random = np.random.default_rng(seed)
    shapes = {"w1": (64, 64), "b1": (64,), "w2": (64, 10), "b2": (10,)}
    weights = {
        name: random.uniform(-1, 1, shape) * np.sqrt(6 / shape[0])
        if name[0] == "w"
        else np.zeros(shape)
        for name, shape in shapes.items()
    }
    return weights, {name: np.zeros(shape) for name, shape in shapes.items()}


def step(weights, velocity, x, y, lr, momentum=0.9):
    """Update the weights in place; the loss (nats) before that."""
    hidden = x @ weights["w1"] + weights["b1"]
    active = np.maximum(hidden, 0)
    logits = active @ weights["w2"] + weights["b2"]
    logits = logits - logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss = -log_p[np.arange(len(y)), y].mean()
    error = np.exp(log_p)
    error[np.arange(len(y)), y] -= 1
    error /= len(y)
    back = (error @ weights["w2"].T) * (hidden > 0)
    gradients = {
        "w1": x.T @ back,
        "b1": back.sum(0),
        "w2": active.T @ error,
        "b2": error.sum(0),
    }
    for name, gradient in gradients.items():
        velocity[name] = momentum * velocity[name] + gradient
        weights[name] -= lr * velocity[name]
    return loss


def range_test(seed):
    """The loss of each batch while the LR climbs the ramp, shape (STEPS,)."""
    weights, velocity = initial_weights(seed)
    order = np.random.default_rng(seed).permutation(len(labels))
    losses = []
    with np.errstate(all="ignore"):  # at the end it explodes, and that is the point
        for i, lr in enumerate(lrs):
            batch = order[i * BATCH : (i + 1) * BATCH]
            losses.append(step(weights, velocity, images[batch], labels[batch], lr))
    return np.array(losses)


loss = range_test(seed=0)
print(f"first loss {loss[0]:.2f} (a uniform guess has {np.log(10):.2f}), last {loss[-1]:.3g}")

# %% [markdown]
# ## Smoothing
# Batches differ, so the loss is noisy. Finders look at an exponential moving average instead: at
# step k the mean `m[k] = β m[k-1] + (1 - β) loss[k]`, divided by `1 - β**k`, with β = 0.98. It is
# smooth, and it lags: its minimum lies at a larger LR than that of the raw loss.


# %% tags=["picture"]
def draw(beta=0.98, seed=0):
    """Raw and smoothed loss of one test, and where each is lowest."""
    loss = range_test(seed)
    smoothed = ema(loss, beta)
    raw_lr, smooth_lr = lrs[np.nanargmin(loss)], lrs[np.nanargmin(smoothed)]
    print(f"lowest raw loss at LR {raw_lr:.2g}, lowest smoothed loss at LR {smooth_lr:.2g}")
    with style.project_style():
        figure, axes = style.axes(size=(6.0, 3.0))
        ax = axes[0, 0]
        top = style.loss_axis(ax, [loss[0]])
        ax.plot(lrs, style.below(loss, top), color=style.TRAIN_COLOUR, alpha=0.4, label="raw")
        ax.plot(lrs, style.below(smoothed, top), color=style.TRAIN_COLOUR, label="smoothed")
        for value, dash in ((raw_lr, ":"), (smooth_lr, "--")):
            ax.axvline(value, color=style.INK, linestyle=dash, linewidth=1)
        style.log_axis(ax)
        ax.set(ylabel="training loss (nats)", xlim=(lrs[0], lrs[-1]))
        ax.legend(loc="lower left")
        display(Image(style.png(figure, dpi=80)))


draw()

# %% [markdown]
# Less smoothing lags less, and is noisier; another seed is another curve:

# %%
draw(beta=0.9)
draw(seed=1)

# %% [markdown]
# In a running notebook, move β and see the minimum wander; change the seed and see it jump. (A page
# that only shows the notebook has no slider; the three figures above stand for it.)

# %%
interact(draw, beta=FloatSlider(0.98, min=0.0, max=0.99, step=0.01), seed=(0, 19))

# %% [markdown]
# ## Rules
# A rule turns the curve into a suggestion: a minimum LR, a maximum LR, or an abstention with its
# reason. On one and the same curve they differ a good deal, and a minimum can come out above the
# maximum. (A dash: the rule does not say.)

# %%
for rule in plugins.names("lrrt.core.rules"):
    found = replay(rule, lrs, loss)
    low, high = (wording.number(value) for value in (found.min_lr, found.max_lr))
    note = found.reason or ("min LR is a fallback" if found.fallback else "")
    if found.min_lr and found.max_lr and found.min_lr > found.max_lr:
        note = "upside down"
    print(f"{rule:18s} min LR {low:>8s}   max LR {high:>8s}   {note}")

# %% [markdown]
# ## Another seed, another suggestion
# The same network, the same data, the same rule: only the initial weights and the order of the
# batches differ. How much that matters is what the study is about.

# %%
curves = [range_test(seed) for seed in range(20)]
suggestions = [replay("blog_fastai", lrs, curve) for curve in curves]
maxima = np.array([s.max_lr for s in suggestions if s.max_lr is not None])
low, median, high = 10 ** np.quantile(np.log10(maxima), [0.1, 0.5, 0.9])
print(f"max LR of {len(maxima)} runs: median {median:.2g}, 10 to 90 %: {low:.2g} to {high:.2g}")

with style.project_style():
    figure, axes = style.axes(size=(6.0, 3.0))
    ax = axes[0, 0]
    top = style.loss_axis(ax, [curve[0] for curve in curves])
    for curve in curves:
        ax.plot(lrs, style.below(ema(curve), top), color=style.TRAIN_COLOUR, alpha=0.5, linewidth=1)
    style.dots(
        ax,
        maxima,
        np.full(len(maxima), 0.03 * top),
        [f"{m:.3g}" for m in maxima],
        color=style.VALIDATION_COLOUR,
    )
    style.log_axis(ax)
    ax.set(ylabel="smoothed loss of 20 runs (nats)", xlim=(lrs[0], lrs[-1]))
    display(Image(style.png(figure, dpi=80)))
