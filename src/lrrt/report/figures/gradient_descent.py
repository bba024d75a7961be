"""How the learning rate shapes the path of gradient descent over a ravine."""

import numpy as np
from matplotlib.figure import Figure

from lrrt.report import style
from lrrt.report.figures import APPENDIX
from lrrt.report.study import StudyData
from lrrt.report.wording import number

ORDER = 190
SECTION = APPENDIX
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


def source(data: StudyData) -> str:
    return "Computed: gradient descent on a quadratic, no run of the study."


def title(data: StudyData) -> str:
    return "A small learning rate creeps, a good one descends, a large one climbs out"


def caption(data: StudyData) -> str:
    ends = "; ".join(
        f"{lr:g}: loss {number(loss(*START), 3)} to {number(loss(*descend(lr)[-1]), 3)}"
        for lr in LRS.values()
    )
    return (
        f"{STEPS} steps of gradient descent on the ravine L = (x² + 12 y²) / 2, which is stable "
        f"below 2/12 = 0.167: an illustration computed from the formula, not a measurement. "
        f"Learning rate {ends}."
    )


def draw(data: StudyData) -> Figure:
    figure, grid = style.axes(1, 3, (style.WIDTH, 2.4), sharex=True, sharey=True)
    x, y = np.meshgrid(np.linspace(-10.5, 5, 60), np.linspace(-6, 6, 60))
    surface = loss(x, y)
    levels = np.geomspace(0.5, 300, 9)
    for ax, (name, lr) in zip(grid[0], LRS.items(), strict=True):
        ax.contour(x, y, surface, levels=levels, colors=style.MUTED, linewidths=0.7)
        ax.plot(
            *descend(lr).T,
            color=style.colour("torch", "blog_fastai"),
            marker="o",
            markersize=3.5,
            linewidth=1.2,
        )
        ax.plot(0, 0, marker="*", color=style.INK, markersize=12, linestyle="none")
        ax.set(title=f"{lr:g}, {name}", xlabel="x", xlim=(-10.5, 5), ylim=(-6, 6))
        ax.grid(False)
    grid[0, 0].set_ylabel("y")
    return figure
