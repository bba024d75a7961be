"""One look for all figures: colours, LR axes, dots that say which run they are, equal bytes."""

import contextlib
import io
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import is_color_like, to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

from lrrt.report.wording import number

# Okabe and Ito's colours, distinct under every common colour blindness. PyTorch is blue and
# Keras is orange; the darker shade is the protocol at home. Nothing but a case has a colour: what
# became of a training is shown by its marker, all else is ink.
COLOURS = {
    ("keras", "blog_keras"): "#D55E00",
    ("keras", "blog_fastai"): "#E69F00",
    ("torch", "blog_fastai"): "#0072B2",
    ("torch", "blog_keras"): "#56B4E9",
}
OTHER_COLOURS = ("#009E73", "#CC79A7", "#000000")
TRAIN_COLOUR, VALIDATION_COLOUR = "#0072B2", "#D55E00"  # of one model's own page
INK, MUTED, LINE, PLATE = "#222222", "#777777", "#dddddd", "#ffffff"
#: Of the colours above, what a dark page shows instead (:mod:`lrrt.report.html`).
DARK = {
    INK: "#e6e6e6",
    MUTED: "#a0a4a9",
    LINE: "#3a3d42",
    PLATE: "#16181b",
    "#000000": "#e6e6e6",
    "#0072B2": "#4aa8e8",
    "#D55E00": "#ff8a3d",
    "#009E73": "#35c79c",
}
MARKERS = {"trains": "o", "stalls": "v", "lags": "s", "overfits": "P", "diverged": "X"}
WIDTH = 5.4  # inches; at this width the words of a figure can still be read on a phone
HOVERED = 150  # beyond so many dots they are one artist, and a run's seed is in the tables only
_TIP = "tip:"


def colour(backend: str, protocol: str) -> str:
    """The colour of a (backend, protocol) pair, the same on every figure."""
    known = COLOURS.get((backend, protocol))
    return known or OTHER_COLOURS[sum(map(ord, backend + protocol)) % len(OTHER_COLOURS)]


@contextlib.contextmanager
def project_style() -> Iterator[None]:
    """Draw and save under the project's style; what was set before returns afterwards."""
    path = resources.files("lrrt.report") / "lrrt.mplstyle"
    with resources.as_file(path) as file, matplotlib.rc_context(fname=file):
        yield


def axes(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (WIDTH, 3.4), **options
) -> tuple[Figure, np.ndarray]:
    """A new figure and its axes, shape (rows, columns); ``size`` in inches."""
    figure = Figure(figsize=size)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def log_axis(
    ax: Axes,
    which: str = "x",
    text: str = "learning rate",
    subdivided: bool = False,
    ticks: int = 12,
) -> None:
    """A log axis with a tick at each decade, or ``subdivided``, at 1, 2 and 5 of each; of more than
    ``ticks`` decades at every second or third. (In plain text: mathtext would read names as
    TeX.)"""
    axis = ax.xaxis if which == "x" else ax.yaxis
    ax.set(**{f"{which}scale": "log", f"{which}label": text})
    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if subdivided else (1,), numticks=ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 1)))
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


def span(
    ax: Axes, place: float, low: float, middle: float, high: float, tick: float, text: str, **looks
) -> None:
    """At the height of ``place`` a bar from ``low`` to ``high``, which shows ``text`` when it is
    hovered, and a tick of ``tick`` points at ``middle``."""
    ax.plot([low, high], [place] * 2, alpha=0.45, gid=tip(text), **looks)
    ax.plot([middle], [place], "|", color=INK, markersize=tick, markeredgewidth=2)


def margin_note(ax: Axes, y: float, text: str, fontsize: float = 8) -> None:
    """``text`` to the right of the axes, at the height of ``y``."""
    ax.annotate(
        text,
        (1, y),
        (3, 0),
        xycoords=ax.get_yaxis_transform(),
        textcoords="offset points",
        va="center",
        fontsize=fontsize,
        annotation_clip=False,
    )


def line_note(ax: Axes, x: float, text: str) -> None:
    """``text`` to the left of the vertical line at ``x``, at its top."""
    ax.annotate(
        text,
        (x, 0.97),
        (-4, 0),
        xycoords=ax.get_xaxis_transform(),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8,
    )


def head(figure: Figure, title: str) -> None:
    """Put the finding over the figure."""
    width = int(figure.get_figwidth() * 10.6)  # bold letters that fit at this size
    figure.suptitle(
        "\n".join(textwrap.wrap(title, width)), x=0.01, ha="left", fontsize=10.5, weight="bold"
    )


def sign(figure: Figure, source: str) -> None:
    """Say, in small print under the figure, what it is made from; a legend of the figure's stands
    above it."""
    lines = textwrap.wrap(source, int(figure.get_figwidth() * 18))  # letters that fit at this size
    rows = 0
    for legend in figure.legends:  # which the layout would put over the small print
        legend.set_in_layout(False)
        legend.set_loc("lower left")
        legend.set_bbox_to_anchor((0.01, (0.06 + 0.12 * len(lines)) / figure.get_figheight()))
        rows = -(-len(legend.get_texts()) // legend._ncols)
    text = "\n".join([*[""] * (2 * rows), *lines])
    figure.supxlabel(text, x=0.01, ha="left", fontsize=7, color=MUTED)


def outcome_legend(ax: Axes, outcomes: Iterable[str], **options) -> None:
    """A legend of the markers of these outcomes."""
    found = set(outcomes)
    handles = [
        Line2D([], [], linestyle="none", marker=marker, color=MUTED, label=outcome)
        for outcome, marker in MARKERS.items()
        if outcome in found
    ]
    ax.legend(handles=handles, **options)


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


def darken(figure: Figure) -> None:
    """Give the figure the colours that a dark page shows."""
    dark = {to_hex(light): to_hex(shade) for light, shade in DARK.items()}
    for artist in figure.findobj():
        for name in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            get, put = (getattr(artist, f"{way}_{name}", None) for way in ("get", "set"))
            given = get() if get and put else None
            if (
                given is None
                or isinstance(given, np.ndarray)
                and given.ndim > 1
                and len(given) != 1
            ):
                continue
            given = given[0] if isinstance(given, np.ndarray) and given.ndim > 1 else given
            shade = dark.get(to_hex(given)) if is_color_like(given) else None
            if shade:
                put(to_rgba(shade, to_rgba(given)[3]))


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
    # A reader without matplotlib's font has one of the same widths, not any other. What matplotlib
    # has escaped as an attribute is also sound as text.
    drawn = (
        buffer.getvalue().decode().replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    )
    titled = re.sub(rf'<g id="{_TIP}([^"]*)">', r'<g class="tip"><title>\1</title>', drawn)
    return {"png": pixels, "svg": titled.encode()}
