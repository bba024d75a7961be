"""The figures of the report: one module, one figure (or one per case).

A figure module has ``ORDER`` (its place on the page), ``SECTION`` (the heading it stands under),
``TITLE``, ``NEEDS`` (what of a study it is drawn from, or ``nothing``), ``caption(data) -> str``
(n, quantity, interval) and ``draw(data) -> matplotlib.figure.Figure | None`` (None: the study has
not what it needs). One that is drawn once per case adds ``cases(data) -> list[tuple[str, ...]]``
and ``title(case) -> str``; its ``caption`` and ``draw`` take the case as second argument. One whose
finding belongs in the answer in brief adds ``headline(data) -> str``, a sentence, which is empty
where the study does not tell; what more there is to say stands in its caption. One of runs that a
section of the configuration asks for at a scale of its own names it: ``RUNS_OF``. ``data`` is a
:class:`lrrt.report.study.StudyData`. A new figure is a new module; one without ``ORDER`` is no
figure of the page.
"""

from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from lrrt import plugins
from lrrt.report import style

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


def _modules() -> list[ModuleType]:
    modules = [plugins.find(__name__, name, "figure") for name in plugins.names(__name__)]
    return sorted((m for m in modules if hasattr(m, "ORDER")), key=lambda module: module.ORDER)


def headlines(data: "StudyData") -> list[tuple[str, str]]:
    """What the figures have found, in the order of the page: a sentence, and the figure's name."""
    found = [
        (module.headline(data), module.__name__.rsplit(".", 1)[1])
        for module in _modules()
        if hasattr(module, "headline")
    ]
    return [(sentence, name) for sentence, name in found if sentence]


def planned(data: "StudyData") -> list[tuple[str, tuple | None]]:
    """What :func:`drawing` can be asked for, in the order of the page: a module's name, and the
    arguments that name the case (None: the study has no case)."""
    found = []
    for module in _modules():
        cases = [(case,) for case in module.cases(data)] if hasattr(module, "cases") else [()]
        found += [(module.__name__.rsplit(".", 1)[1], case) for case in cases or [None]]
    return found


def drawing(data: "StudyData", name: str, case: tuple | None) -> Drawing:
    """One figure of :func:`planned`. Draw and save under :func:`.style.applied`."""
    module = plugins.find(__name__, name, "figure")
    figure = None if case is None else module.draw(data, *case)
    if figure is not None and module.NEEDS != "nothing":
        section = getattr(module, "RUNS_OF", None)
        style.sign(figure, data.source(getattr(data.config, section) if section else None))
    return Drawing(
        name="-".join((name, *(case[0] if case else ()))),
        section=module.SECTION,
        title=module.title(*case) if case else module.TITLE,
        caption="" if figure is None else module.caption(data, *case),
        figure=figure,
        needs=module.NEEDS,
    )
