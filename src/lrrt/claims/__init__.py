"""The post's claims, each judged by one function on the frames of one study or several.

A module per theme, a function per claim: its docstring is the rule that decides, with the names of
``lrrt.claims.margins`` in braces. A new claim is one new function, marked with :func:`claim`;
tables, counts and pages find it.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lrrt import plugins
from lrrt.claims import margins
from lrrt.claims.verdict import Grade, Verdict, holm

if TYPE_CHECKING:
    from lrrt.claims.study import Study

Judge = Callable[[Sequence["Study"]], Verdict]


@dataclass(frozen=True)
class Claim:
    """A claim and what it comes to.

    ``number``: its place in the post. ``text``: as the post says it; ``short``: a row's heading.
    ``rule``: how it is decided. ``after_holm``: whether its main test stands when all claims are
    tested together (None: it has no test). ``exploratory``: whether the rule was fixed after the
    runs had been seen.
    """

    number: int
    text: str
    short: str
    rule: str
    verdict: Verdict
    after_holm: bool | None = None
    exploratory: bool = False

    @property
    def grade(self) -> Grade:
        return self.verdict.grade


def claim(number: int, short: str, text: str) -> Callable[[Judge], Judge]:
    """Mark a function as the judge of the post's claim ``number``."""

    def mark(function: Judge) -> Judge:
        function.claim = (number, text, short)
        return function

    return mark


def judges() -> list[Judge]:
    """The functions that :func:`claim` marks in this package's modules, in the post's order."""
    modules = (plugins.find(__name__, name, "claims") for name in plugins.names(__name__))
    found = {f for module in modules for f in vars(module).values() if hasattr(f, "claim")}
    return sorted(found, key=lambda function: function.claim[0])


def rule(function: Judge) -> str:
    """How a claim is decided: its judge's docstring, with the margins put in."""
    return " ".join(inspect.getdoc(function).format_map(vars(margins)).split())


def judge(studies: Sequence["Study"]) -> list[Claim]:
    """Judge every claim on the runs of all ``studies`` together, in the post's order."""
    exploratory = any(s.config.study.name in margins.EXPLORATORY for s in studies)
    claims = [
        Claim(number, text, short, rule(function), function(studies), None, exploratory)
        for function in judges()
        for number, text, short in [function.claim]
    ]
    ps = {c.number: c.verdict.p for c in claims}
    stand = holm({number: p if math.isfinite(p) else 1.0 for number, p in ps.items()})
    tested = {number for number, p in ps.items() if math.isfinite(p)}
    return [
        replace(c, after_holm=c.number in stand if c.number in tested else None) for c in claims
    ]
