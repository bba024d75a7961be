"""The figures of the report: one module, one figure (or one per case).

A figure module has ``ORDER`` (its place on the page), ``SECTION`` (the heading it stands under),
``TITLE``, ``NEEDS`` (what it is drawn from), ``caption(data, *case) -> str`` (n, quantity, interval)
and ``draw(data, *case) -> matplotlib.figure.Figure | None`` (None: the study has not what it needs).
One that is drawn once per case adds ``cases(data) -> list[tuple[str, ...]]`` and
``title(*case) -> str``. ``data`` is a :class:`lrrt.report.study.StudyData`. A new figure is a new
module; one without ``ORDER`` is no figure of the page.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from lrrt import plugins

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lrrt.report.study import StudyData


class Drawing(NamedTuple):
    """``figure`` is None where the study lacks what it needs; ``needs`` then says what."""

    name: str
    section: str
    title: str
    caption: str
    figure: "Figure | None"
    needs: str


def drawings(data: "StudyData") -> Iterator[Drawing]:
    """Every figure, in the order of the page. Draw and save under :func:`.style.applied`."""
    modules = [plugins.find(__name__, name, "figure") for name in plugins.names(__name__)]
    modules = [module for module in modules if hasattr(module, "ORDER")]
    for module in sorted(modules, key=lambda module: module.ORDER):
        base = module.__name__.rsplit(".", 1)[1]
        for case in (module.cases(data) if hasattr(module, "cases") else [()]) or [()]:
            # A module with cases and none of them to draw is named as missing.
            drawable = bool(case) or not hasattr(module, "cases")
            figure = module.draw(data, *case) if drawable else None
            yield Drawing(
                name="-".join((base, *case)),
                section=module.SECTION,
                title=module.title(*case) if case else module.TITLE,
                caption=module.caption(data, *case) if figure is not None else "",
                figure=figure,
                needs=module.NEEDS,
            )
