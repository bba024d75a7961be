"""One look for all figures: colours, LR axes, dots that say which run they are, equal bytes."""

import contextlib
import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from importlib import resources

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

from lrrt.report.wording import number

# Okabe and Ito's colours, told apart under every common colour blindness. PyTorch is blue and
# Keras is orange; the darker shade is the protocol at home.
COLOURS = {
    ("keras", "blog_keras"): "#D55E00",
    ("keras", "blog_fastai"): "#E69F00",
    ("torch", "blog_fastai"): "#0072B2",
    ("torch", "blog_keras"): "#56B4E9",
}
OTHER_COLOURS = ("#009E73", "#CC79A7", "#000000")
WEIGHTS_COLOURS = {"A": "#0072B2", "B": "#E69F00"}  # the pair's two initialisations, as in the post
TRAIN_COLOUR, VALIDATION_COLOUR, BATCH_VALIDATION_COLOUR = "#0072B2", "#D55E00", "#009E73"
MUTED, INK = "#777777", "#222222"
REGIONS = {"plateau": "#56B4E9", "descent": "#009E73", "explosion": "#D55E00"}
OUTCOME_COLOURS = {
    "trains": "#009E73",
    "stalls": "#F0E442",
    "lags": "#CC79A7",
    "overfits": "#E69F00",
    "diverged": "#D55E00",
}
SCALE = LinearSegmentedColormap.from_list(  # light to dark, so that it also reads in grey
    "lrrt", ["#9ecae1", "#3182bd", "#08306b"]
)
HOVERED = 150  # beyond so many dots they are one artist, and a run's seed is in the tables only
_TIP = "tip:"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def colour(backend: str, protocol: str) -> str:
    """The colour of a (backend, protocol) pair, the same on every figure."""
    known = COLOURS.get((backend, protocol))
    return known or OTHER_COLOURS[sum(map(ord, backend + protocol)) % len(OTHER_COLOURS)]


@contextlib.contextmanager
def applied() -> Iterator[None]:
    """Draw and save under the project's style; what was set before returns afterwards."""
    path = resources.files("lrrt.report") / "lrrt.mplstyle"
    with resources.as_file(path) as file, matplotlib.rc_context(fname=file):
        yield


def axes(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.4, 3.8), **options
) -> tuple[Figure, np.ndarray]:
    """A new figure and its axes, shape (rows, columns); ``size`` in inches."""
    figure = Figure(figsize=size)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _decade(value: float, _position: int | None = None) -> str:
    exponent = np.log10(value)
    if abs(exponent - round(exponent)) > 1e-6:
        return ""
    exponent = round(exponent)
    if -2 <= exponent <= 2:
        return f"{value:g}"
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def log_axis(
    ax: Axes, which: str = "x", text: str = "learning rate", subdivided: bool = False
) -> None:
    """A log axis with a tick at each decade, or ``subdivided``, at 1, 2 and 5 of each. (In plain
    text: mathtext would read names as TeX.)"""
    axis = ax.xaxis if which == "x" else ax.yaxis
    ax.set(**{f"{which}scale": "log", f"{which}label": text})
    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if subdivided else (1,), numticks=12))
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: number(value, 1)) if subdivided else FuncFormatter(_decade)
    )
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def loss_axis(ax: Axes, starts: Sequence[float], headroom: float = 1.6) -> float:
    """Cut the loss axis at ``headroom`` times the median starting loss, since an explosion has no
    top; returns that top."""
    starts = np.asarray(starts, float)
    starts = starts[np.isfinite(starts)]
    top = headroom * float(np.median(starts)) if len(starts) else 10.0
    ax.set_ylim(0, top)
    return top


def below(values: np.ndarray, top: float) -> np.ndarray:
    """``values`` with whatever lies far above ``top`` brought near, for the renderer's sake: an
    exploded loss, infinite or not, leaves the axes at their top. NaN counts as exploded."""
    values = np.where(np.isnan(values), np.inf, np.asarray(values, float))
    return np.clip(values, -2 * top, 3 * top)


def tip(text: str) -> str:
    """The ``gid`` of an artist that shows ``text`` when it is hovered in the SVG."""
    # With a double quote in it the attribute would be written in single ones.
    return _TIP + " ".join(text.replace('"', "'").split())


def dots(ax: Axes, x: Sequence[float], y: Sequence[float], tips: Sequence[str], **looks) -> None:
    """Dots, each an artist with its own hover text while they are few."""
    looks = {"marker": "o", "markersize": 5, "markeredgewidth": 0, "linestyle": "none", **looks}
    if len(tips) > HOVERED:
        ax.plot(x, y, rasterized=True, **looks)
        return
    for x_value, y_value, text in zip(x, y, tips, strict=True):
        ax.plot([x_value], [y_value], gid=tip(text), **looks)


def sign(figure: Figure, source: str) -> None:
    """Say, in small print under the figure, what it is made from."""
    width = int(figure.get_figwidth() * 19)  # letters that fit at this size
    figure.supxlabel(
        "\n".join(textwrap.wrap(source, width)), x=0.01, ha="left", fontsize=6.5, color=MUTED
    )


def jitter(count: int, width: float = 0.16) -> np.ndarray:
    """Offsets that keep ``count`` dots apart, always the same, shape (count,)."""
    golden = 0.6180339887498949  # low discrepancy: neighbours land far apart
    return width * (2 * ((np.arange(count) * golden + 0.5) % 1) - 1)


def png(figure: Figure, dpi: int) -> bytes:
    """The figure as PNG; equal figures give equal bytes."""
    # Not by savefig, which draws and lays out several times over.
    buffer = io.BytesIO()
    figure.set_dpi(dpi)
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def encode(figure: Figure, dpi: int) -> dict[str, bytes]:
    """The figure as ``png`` and ``svg``; equal figures give equal bytes.

    In the SVG each artist marked with :func:`tip` carries its text as ``<title>``.
    """
    figure.set_dpi(dpi)
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine("none")
    for ax in figure.axes:
        # The solver's last bits differ from time to time, and an SVG names clips by all of them.
        ax.set_position(Bbox(ax.get_position().get_points().round(6)))
    pixels = png(figure, dpi)
    buffer = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    # What matplotlib has escaped as an attribute is also sound as text.
    titled = re.sub(
        rf'<g id="{_TIP}([^"]*)">', r'<g class="tip"><title>\1</title>', buffer.getvalue().decode()
    )
    return {"png": pixels, "svg": titled.encode()}
