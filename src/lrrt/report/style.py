"""One look for all figures: fonts, colours, LR axes, reproducible files."""

import contextlib
import io
from collections.abc import Iterator
from importlib import resources

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

# Okabe and Ito's colours, told apart under every common colour blindness.
# PyTorch is blue and Keras is red-orange; the darker shade is the protocol at home.
COLOURS = {
    ("keras", "blog_keras"): "#D55E00",
    ("keras", "blog_fastai"): "#E69F00",
    ("torch", "blog_fastai"): "#0072B2",
    ("torch", "blog_keras"): "#56B4E9",
}
OTHER_COLOURS = ("#009E73", "#CC79A7", "#000000")
WEIGHTS_COLOURS = {"A": "#0072B2", "B": "#E69F00"}  # the pair's two initialisations
TRAIN_COLOUR, VALIDATION_COLOUR = "#0072B2", "#D55E00"
MUTED = "#777777"
REGIONS = {"plateau": "#56B4E9", "descent": "#009E73", "explosion": "#D55E00"}
NAMES = {
    "keras": "Keras", "torch": "PyTorch",
    "blog_keras": "the post's Keras protocol", "blog_fastai": "the post's fastai protocol",
}
SHORT_NAMES = {**NAMES, "blog_keras": "Keras protocol", "blog_fastai": "fastai protocol"}


def colour(backend: str, protocol: str) -> str:
    """The colour of a (backend, protocol) pair, the same on every figure."""
    known = COLOURS.get((backend, protocol))
    return known or OTHER_COLOURS[sum(map(ord, backend + protocol)) % len(OTHER_COLOURS)]


def label(backend: str, protocol: str, short: bool = False) -> str:
    names = SHORT_NAMES if short else NAMES
    return f"{names.get(backend, backend)}, {names.get(protocol, protocol)}"


@contextlib.contextmanager
def applied() -> Iterator[None]:
    """Draw and save under the project's style; what was set before returns afterwards."""
    path = resources.files("lrrt.report") / "lrrt.mplstyle"
    with resources.as_file(path) as file, matplotlib.rc_context(fname=file):
        yield


def axes(rows: int = 1, columns: int = 1, size: tuple[float, float] = (7.2, 4.2), **options):
    """A new figure and its axes as an array of shape (rows, columns); ``size`` in inches."""
    figure = Figure(figsize=size)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def lr_axis(ax: Axes, which: str = "x", text: str = "learning rate") -> None:
    """A log axis with a tick at each decade."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    ax.set(**{f"{which}scale": "log", f"{which}label": text})
    axis.set_major_locator(LogLocator(10, numticks=12))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def loss_limits(ax: Axes, starts: list[float], headroom: float = 1.6) -> None:
    """Cut the loss axis at ``headroom`` times the median starting loss: explosions have no top."""
    starts = [start for start in starts if np.isfinite(start)]
    if starts:
        ax.set_ylim(0, headroom * float(np.median(starts)))


def jitter(count: int, width: float = 0.16) -> np.ndarray:
    """Offsets that keep ``count`` dots apart, always the same, shape (count,)."""
    golden = 0.6180339887498949  # low discrepancy: neighbours land far apart
    return width * (2 * ((np.arange(count) * golden + 0.5) % 1) - 1)


def encode(figure: Figure, kind: str, dpi: int) -> bytes:
    """The bytes of a figure as ``png`` or ``svg``; equal figures give equal bytes."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    return buffer.getvalue()
