"""The figures of the report: one module, one figure (or one per case).

A figure module has ``ORDER`` (its place on the page), ``TITLE``, ``NEEDS`` (what it is drawn from),
``caption(data, *case) -> str`` (n, quantity, interval; also the alternative text) and
``draw(data, *case) -> matplotlib.figure.Figure | None`` (None: the study has not what it needs).
Those drawn once per case add ``cases(data) -> list[tuple[str, str]]``. A new figure is a new module.
"""

from collections.abc import Iterator
from typing import NamedTuple

from lrrt import plugins


class Drawing(NamedTuple):
    """``figure`` is None where the study lacks what it needs; ``missing`` then says what."""

    name: str
    title: str
    caption: str
    figure: object | None
    missing: str


def drawings(data) -> Iterator[Drawing]:
    """Draw every figure from a ``lrrt.report.StudyData``, in the order of the page."""
    modules = [plugins.find(__name__, name, "figure") for name in plugins.names(__name__)]
    modules = [module for module in modules if hasattr(module, "ORDER")]
    for module in sorted(modules, key=lambda module: module.ORDER):
        base = module.__name__.rsplit(".", 1)[1]
        cases = module.cases(data) if hasattr(module, "cases") else [()]
        if not cases:
            yield Drawing(base, module.TITLE, "", None, module.NEEDS)
        for case in cases:
            figure = module.draw(data, *case)
            yield Drawing(
                "-".join((base, *case)),
                module.title(*case) if case else module.TITLE,
                module.caption(data, *case) if figure is not None else "",
                figure,
                module.NEEDS,
            )
