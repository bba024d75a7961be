"""How the learning rate shapes the path of gradient descent over a ravine."""

import numpy as np
from matplotlib.figure import Figure

from lrrt.report import style
from lrrt.report.study import StudyData
from lrrt.report.wording import number

ORDER = 10
SECTION = "The range test"
TITLE = "Learning rates and the way down a loss surface"
NEEDS = "nothing"
CURVATURES = (1.0, 12.0)  # along x and y; gradient descent is stable below 2 / 12 = 0.167
START = (-9.0, 1.6)
STEPS = 20
LRS = {"too small": 0.01, "good": 0.14, "too large": 0.171}


def loss(x, y):
    """L(x, y) = (x² + 12 y²) / 2."""
    return (CURVATURES[0] * x**2 + CURVATURES[1] * y**2) / 2


def descend(lr: float) -> np.ndarray:
    """Positions of gradient descent at ``lr``, shape (STEPS + 1, 2)."""
    factors = (1 - lr * np.array(CURVATURES)) ** np.arange(STEPS + 1)[:, None]
    return np.array(START) * factors


def caption(data: StudyData) -> str:
    ends = "; ".join(
        f"{name} (LR {lr:g}): loss {number(loss(*START), 3)} to {number(loss(*descend(lr)[-1]), 3)}"
        for name, lr in LRS.items()
    )
    return (
        f"{STEPS} steps of gradient descent from ({START[0]:g}, {START[1]:g}) on the ravine "
        f"L = (x² + 12 y²) / 2, which is stable below LR 2/12 = 0.167. {ends}. "
        "An illustration computed from the formula, not a measurement."
    )


def draw(data: StudyData) -> Figure:
    figure, grid = style.axes(1, 3, (8.6, 3.0), sharex=True, sharey=True)
    x, y = np.meshgrid(np.linspace(-10.5, 5, 60), np.linspace(-6, 6, 60))
    surface = loss(x, y)
    levels = np.geomspace(0.5, 300, 9)
    for ax, (name, lr) in zip(grid[0], LRS.items(), strict=True):
        ax.contour(x, y, surface, levels=levels, colors="#aaaaaa", linewidths=0.7)
        ax.plot(*descend(lr).T, color=style.TRAIN_COLOUR, marker="o", markersize=3.5, linewidth=1.2)
        ax.plot(0, 0, marker="*", color=style.VALIDATION_COLOUR, markersize=12, linestyle="none")
        ax.set(title=f"LR {lr:g}: {name}", xlabel="x", xlim=(-10.5, 5), ylim=(-6, 6))
        ax.grid(False)
    grid[0, 0].set_ylabel("y")
    return figure
