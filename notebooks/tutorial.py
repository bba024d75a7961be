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
# # From a model to a chosen learning rate
#
# This tutorial takes one minute on a CPU, with a small convolutional network and scikit-learn's
# handwritten digits. It runs one range test, shows what the rules make of it, then an **audit**
# that repeats the test and tries what it suggests, and trainings that check the answer. At the end
# comes a case in which the finder should not be trusted, and how the audit says so.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import lrrt

torch.set_num_threads(1)
pixels, labels = load_digits(return_X_y=True)
images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
labels = torch.tensor(labels)
train, test = slice(0, 1440), slice(1440, None)
print(f"{len(images)} images of 8x8 pixels, 10 classes; {len(labels[test])} kept for testing")

# %% [markdown]
# ## 1. Say how your model and your data are made
#
# These are two functions. Each is called anew for each run, with all random states seeded.


# %%
def make_model():
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128, 10)),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return model, optimizer, nn.CrossEntropyLoss()


def make_data():
    return {"data": (images[train], labels[train]), "batch_size": 32}


# %% [markdown]
# ## 2. One range test
#
# It trains while the learning rate rises at every batch, and puts everything back afterwards.

# %%
torch.manual_seed(0)
model, optimizer, loss = make_model()
curve = lrrt.range_test(model, loss, optimizer=optimizer, **make_data())
curve.plot()
plt.show()

# %% [markdown]
# The curve is raw; a rule reads a learning rate off it. Rules disagree, since they mean different
# things: a safe minimum, a middle, a maximum. `edge` is the default.

# %%
for suggestion in curve.compare().values():
    print(suggestion)

# %% [markdown]
# ## 3. An audit: repeat it, and try what it suggests
#
# Ten range tests with new weights and a new order of the data. With `train_steps` each run also
# trains shortly at the suggestion, at a tenth of it and at ten times it.

# %%
audit = lrrt.audit(make_model, make_data, runs=10, train_steps=100)
print(audit)


# %%
def draw(audit):
    """The smoothed curves of all runs, and what each suggests."""
    figure, ax = plt.subplots(figsize=(6, 3))
    for one, suggestion in zip(audit.curves, audit.suggestions, strict=True):
        (line,) = ax.plot(one.lr, one.smoothed(), alpha=0.7)
        if suggestion.lr is not None:
            ax.axvline(suggestion.lr, color=line.get_color(), linestyle=":", linewidth=1)
    start = np.median([one.loss[0] for one in audit.curves])
    ax.set(xscale="log", xlabel="learning rate", ylabel="smoothed loss", ylim=(0, 1.5 * start))
    ax.set_title(f"{len(audit.curves)} range tests, dotted: what {audit.rule} suggests", loc="left")
    plt.show()


draw(audit)

# %% [markdown]
# `audit.report("lr.html")` writes all this as a page: every run, every rule, every short training.
#
# ## 4. Check it: train at several rates
#
# The network trains for three epochs at a constant rate, from weights that no range test has seen.


# %%
def accuracy_after(lr, epochs=3):
    torch.manual_seed(100)
    model, optimizer, loss = make_model()
    optimizer.param_groups[0]["lr"] = lr
    x, y = images[train], labels[train]
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            loss(model(x[batch]), y[batch]).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        return (model(images[test]).argmax(1) == labels[test]).float().mean().item()


lrs = [1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0, 3.0]
accuracies = [accuracy_after(lr) for lr in lrs]
for lr, accuracy in zip(lrs, accuracies, strict=True):
    print(f"{lr:<7g} {100 * accuracy:.0f} %")

# %% tags=["picture"]
median = np.median([s.lr for s in audit.suggestions if s.lr is not None])
figure, ax = plt.subplots(figsize=(6, 3))
ax.plot(lrs, [100 * accuracy for accuracy in accuracies], "o-")
for factor, words in ((0.1, "a tenth"), (1, "the suggestion"), (10, "ten times")):
    ax.axvline(factor * median, color="0.4", linestyle=":")
    ax.text(factor * median, 2, f" {words}", rotation=90, va="bottom", ha="right", fontsize=8)
ax.axhline(10, color="0.7", linewidth=1)
ax.set(xscale="log", ylim=(0, 103), xlabel="learning rate", ylabel="test accuracy (%)")
ax.set_title("Accuracy after three epochs, and what was suggested", loc="left")
plt.show()

# %% [markdown]
# ## 5. When not to trust it
#
# Now the same network has batches of two images and 25 steps: the loss jumps more from batch to
# batch than the training can make it fall. A single range test might still have given a number.

# %%
noisy = lrrt.audit(
    make_model, lambda: make_data() | {"batch_size": 2}, runs=10, steps=25, train_steps=25
)
print(noisy)
draw(noisy)

# %% [markdown]
# More steps or larger batches would help. [Your own model](../docs/your_model.md) says for every
# verdict of an audit what to do.
#
# ## The same with other tools
#
# - **Keras**: `make_model` returns a compiled model, the rest is the same.
# - **your training loop**: `lrrt.range_test(model, loss, loader, optimizer)` also in the middle of
#   a training.
# - **Lightning, Keras callbacks, curves of other finders**: [moving over](../docs/moving_over.md).
# - **a terminal**: `lrrt audit my_package.my_module:make_model --report lr.html`.
