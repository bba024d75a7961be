"""The only place that turns a result into words: numbers, intervals, names of cases, outcomes."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from lrrt.analysis.spread import Spread
from lrrt.analysis.statistics import mean_interval
from lrrt.claims.verdict import Effect, Result, Scale, Verdict

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
    "cnn": "CNN",
    "mlp": "MLP",
    "cifar10": "CIFAR-10",
    "digits8x8": "digits of 8x8 pixels",
    "tfloat32": "TF32",
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


def place(ran: str) -> str:
    """Where runs ran, as ``"a GPU in TF32"`` of ``"cuda, tfloat32"``."""
    device, _, precision = ran.partition(", ")
    device = {"cpu": "a CPU", "cuda": "a GPU"}.get(device.partition(":")[0], device)
    return f"{device} in {name(precision)}" if precision else device


def network(kind: str, depth: int) -> str:
    """As people write it: ``"ResNet-56"``."""
    return f"{name(kind)}-{depth}" if depth else name(kind)


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


def multiple(row: Mapping) -> str:
    """The same of a change in decades, as the factor that it is: ``"160 [68, 390]"``."""
    ends = [row["low"], row["high"]]
    finite = all(map(math.isfinite, ends))
    found = f" [{', '.join(ratio(10**end) for end in ends)}]" if finite else ""
    return f"{ratio(10 ** row['effect'])}{found}"


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


def ratio(value: float) -> str:
    """A ratio of two learning rates: ``"32"``, ``"3.9"``, ``"5,200"``; a dash for none."""
    if not math.isfinite(value):
        return NONE
    rounded = float(f"{value:.1e}")
    return f"{rounded:,.0f}" if rounded >= 10 else number(value)


def times(value: float) -> str:
    """The same beside other numbers: ``"×32"``."""
    return f"×{ratio(value)}" if math.isfinite(value) else NONE


def fold(value: float) -> str:
    """The same in a sentence: ``"32-fold"``."""
    return f"{ratio(value)}-fold" if math.isfinite(value) else NONE


def spread(of: Spread) -> str:
    """How far LRs are apart: ``"3 of 20 runs near 0.10, the others near 2.1"``, else a factor from
    the 10 to the 90 % quantile: ``"12-fold [5.2, 42]"``."""
    if of.low:
        middle = number(of.low_centre), number(of.centre)
        return f"{of.low} of {of.n} runs near {middle[0]}, the others near {middle[1]}"
    return f"{fold(of.factor)} {interval(of.factor_low, of.factor_high)}".rstrip()


def percent(share: float) -> str:
    """``"54 %"``."""
    return f"{100 * share:.0f} %" if math.isfinite(share) else NONE


FACTOR_NAMES = {"gradient_clip": "gradient clipping", "recorded": "recorded loss"}


def factor(name: str) -> str:
    """A factor between two protocols as people write it: ``"gradient clipping"``."""
    return FACTOR_NAMES.get(name, name.replace("_", " "))


def scale(at: Scale) -> str:
    """``"ResNet-56, batch 512"``."""
    return f"{network(at.network, at.depth)}, batch {at.batch_size}"


def estimate(effect: Effect, signed: bool = True) -> str:
    """An effect in its unit with its interval: ``"+31 points [+21, +41]"``, ``"71 % [34, 88]"``,
    ``"17 [8.0, 23]"``, ``"+0.34 decades [+0.09, +0.59]"``.

    ``signed`` false: its size, without a sign.
    """
    value, low, high = effect.value, effect.low, effect.high
    if not math.isfinite(value):
        return NONE
    if effect.unit == "factor":
        return f"{number(value)} {interval(low, high) if low < high else ''}".rstrip()
    if not signed and value < 0:
        value, low, high = -value, -high, -low
    places, factor, unit = {
        "accuracy": (0, 100, " points"),
        "share": (0, 100, " %"),
        "change": (0, 100, " %"),
        "decades": (2, 1, " decades"),
    }[effect.unit]
    signed = signed and effect.unit != "share"
    words = (
        change(factor * v, places) if signed else f"{round(factor * v, places) + 0:.{places}f}"
        for v in (value, low, high)
        if math.isfinite(v)
    )
    middle, *ends = words
    return f"{middle}{unit} [{', '.join(ends)}]" if len(ends) == 2 else f"{middle}{unit}"


def judged(effect: Effect) -> str:
    """An effect and what it is held against: ``"share with all three: 95 % [75, 100], against
    50 %"``; ``"accuracy at A's max LR minus B's: -34 points [-41, -28], 5 or more count"``."""
    against = {
        "accuracy": f"{100 * effect.smallest:g} or more count",
        "decades": f"{effect.smallest:g} or more count",
        "factor": f"{effect.smallest:g}-fold or more counts",
    }.get(effect.unit, f"against {100 * effect.none:.0f} %")
    return f"{effect.quantity}: {estimate(effect)}, {against}"


def finding(template: str, result: Result) -> str:
    """A sentence of a claim with a result's numbers put in, its first letter a capital."""
    fields = _Names() | {
        name: number(value) if isinstance(value, float) else name_of(value)
        for name, value in result.numbers.items()
    }
    if result.effect:
        fields["effect"] = estimate(result.effect)
        fields["size"] = estimate(result.effect, signed=False)
        fields["lose"] = f"{'lose' if result.effect.value < 0 else 'gain'} {fields['size']}"
        fields["p"] = p_value(result.effect.p)
        if result.effect.unit == "decades":
            of = result.effect
            fields["fold"] = multiple({"effect": of.value, "low": of.low, "high": of.high})
    fields |= {"part": part(result.part), "units": result.units, "runs": result.runs}
    fields["scale"] = scales(result)
    text = template.format_map(_Names(fields))
    return text if text.startswith("fastai") else text[:1].upper() + text[1:]


class _Names(dict):
    """Fields of a sentence; one that is not there is a name: ``{blog_keras}``."""

    def __missing__(self, key: str) -> str:
        return name(key)


def name_of(value: object) -> str:
    return name(value) if isinstance(value, str) else str(value)


def scales(result: Result) -> str:
    """``"ResNet-56, batch 512"``; of several joined by "and"."""
    return listed(scale(at) for at in result.scales)


def part(words: str) -> str:
    """A result's part with the names of protocols, quantities and policies put in."""
    return ", ".join(name(word) for word in words.split(", "))


def about(verdict: Verdict) -> str:
    """What of a claim its grade names: ``"reason: supported; factor ten: contradicted"``."""
    return verdict.about.format_map(_Names())


def grade(verdict: Verdict) -> str:
    """``"mixed (reason: supported; factor ten: contradicted)"``."""
    return f"{verdict.grade} ({about(verdict)})" if verdict.about else str(verdict.grade)


def sentence(verdict: Verdict) -> str:
    """What a claim comes to, in one sentence; the runs that it lacks, where it was not judged."""
    if verdict.main:
        return finding(verdict.sentence, verdict.main)
    return f"This study has no {verdict.missing.removeprefix('a ')}."
