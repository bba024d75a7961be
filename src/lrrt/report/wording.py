"""The only place that turns a result into words: numbers, intervals, names of cases, outcomes."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from lrrt.analysis.statistics import mean_interval

NAMES = {
    "keras": "Keras",
    "torch": "PyTorch",
    "blog_keras": "Keras protocol",
    "blog_fastai": "fastai protocol",
    "min_lr": "min LR",
    "max_lr": "max LR",
    "one_cycle": "one cycle",
    "warm_restarts": "warm restarts",
    "resnet": "ResNet",
    "cifar10": "CIFAR-10",
}
#: Outcomes of a training, best first: for one training, and for several.
OUTCOMES = {
    "trains": "train",
    "stalls": "stall",
    "lags": "lag",
    "overfits": "overfit",
    "diverged": "diverged",
}
NONE = "–"


def name(word: str) -> str:
    """What a person calls a backend, protocol, quantity or policy; the word itself where nothing
    better is known."""
    return NAMES.get(word, word)


def case(backend: str, protocol: str) -> str:
    """``"PyTorch, fastai protocol"``."""
    return f"{name(backend)}, {name(protocol)}"


def network(kind: str, depth: int) -> str:
    """As people write it: ``"ResNet-56"``."""
    return f"{name(kind)}-{depth}"


def number(value: float | None, digits: int = 2) -> str:
    """A number to ``digits`` significant digits: ``"0.084"``, ``"5.5e-4"``; a dash for none."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if -4 < int(exponent) < 4:
        return f"{float(f'{mantissa}e{exponent}'):.{max(0, digits - 1 - int(exponent))}f}"
    return f"{mantissa}e{int(exponent)}"


def change(value: float, decimals: int = 2) -> str:
    """A number with its sign, rounded first so that nothing is shown as minus nothing."""
    return f"{round(value, decimals) + 0:+.{decimals}f}"


def interval(low: float, high: float, decimals: int | None = None) -> str:
    """``"[0.21, 0.41]"``: to two significant digits, or to so many ``decimals`` with signs; empty
    without one."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    ends = (number(e) if decimals is None else change(e, decimals) for e in (low, high))
    return f"[{', '.join(ends)}]"


def effect(row: Mapping) -> str:
    """A change (``effect``) with its sign and, where it has one, its interval (``low``,
    ``high``): ``"+0.31 [+0.21, +0.41]"``."""
    return f"{change(row['effect'])} {interval(row['low'], row['high'], 2)}".rstrip()


def gain(values: Iterable[float]) -> str:
    """The mean of gains of accuracy in points, with its interval: ``"+31 points [+21, +41]"``."""
    points = [100 * value for value in values]
    mean, ends = sum(points) / len(points), interval(*mean_interval(points), 0)
    return f"{change(mean, 0)} points {ends}".rstrip()


def outcomes(values: Iterable[str]) -> str:
    """How many trainings had each outcome, best first: ``"6 train, 1 lags"``."""
    counts = Counter(values)
    words = (
        f"{counts[one]} {one if counts[one] == 1 else several}"
        for one, several in OUTCOMES.items()
        if counts[one]
    )
    return ", ".join(words) or "none"


def p_value(p: float) -> str:
    """``"p = 0.016"``, ``"p < 0.001"``."""
    return "p < 0.001" if p < 0.001 else f"p = {number(p)}"


def listed(parts: Iterable[str]) -> str:
    """``"a, b and c"``."""
    *first, last = list(parts) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def times(ratio: float) -> str:
    """A ratio of two learning rates: ``"×32"``, ``"×3.9"``, ``"×5,200"``."""
    if not math.isfinite(ratio):
        return NONE
    rounded = float(f"{ratio:.1e}")
    return f"×{rounded:,.0f}" if rounded >= 10 else f"×{number(ratio)}"


def fold(ratio: float) -> str:
    """The same in a sentence: ``"32-fold"``."""
    return f"{times(ratio)[1:]}-fold" if math.isfinite(ratio) else NONE


def percent(share: float) -> str:
    """``"54 %"``."""
    return f"{100 * share:.0f} %" if math.isfinite(share) else NONE


FACTORS = {"gradient_clip": "gradient clipping", "recorded": "recorded loss"}


def factor(name: str) -> str:
    """A factor between two protocols as people write it: ``"gradient clipping"``."""
    return FACTORS.get(name, name.replace("_", " "))
