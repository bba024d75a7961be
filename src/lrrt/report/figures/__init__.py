"""The figures of the report: one module, one figure (or one per case).

A figure module has ``ORDER`` (its place on the page), ``SECTION`` (the heading it stands under; one
of ``SECTIONS``), ``title(data) -> str`` (the finding, written over the figure), ``caption(data) ->
str`` (how to read it, with n: three sentences at most) and ``draw(data) ->
matplotlib.figure.Figure | None`` (None: the study has not what it shows, and the page leaves it
out). ``title`` and ``caption`` are asked only of what is drawn. A figure that is drawn once per
case adds ``cases(data) -> list[tuple[str, ...]]``; its other functions take the case as second
argument. One of runs that a section of the configuration asks for at a scale of its own names it:
``RUNS_OF``; one of runs on other data says in ``source(data)`` what it is made from. ``data`` is a
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

ANSWER = "The answer"
TEST = "What a range test is"
SPREAD = "How much one test varies"
TRAINED = "What happens if you train there"
RULE = "Which rule to read"
WHY = "Why: protocol, framework, smoothing"
APPENDIX = "Appendix: more figures"
SECTIONS = (ANSWER, TEST, SPREAD, TRAINED, RULE, WHY, APPENDIX)


class Drawing(NamedTuple):
    """``figure`` is None once its files are made."""

    name: str
    section: str
    title: str
    caption: str
    figure: "Figure | None"


def _modules() -> list[ModuleType]:
    modules = [plugins.find(__name__, name, "figure") for name in plugins.names(__name__)]
    return sorted((m for m in modules if hasattr(m, "ORDER")), key=lambda module: module.ORDER)


def plan(data: "StudyData") -> list[tuple[str, tuple]]:
    """What :func:`drawing` can be asked for, in the order of the page: a module's name, and the
    arguments that name the case."""
    return [
        (module.__name__.rsplit(".", 1)[1], case)
        for module in _modules()
        for case in ([(case,) for case in module.cases(data)] if hasattr(module, "cases") else [()])
    ]


def drawing(data: "StudyData", name: str, case: tuple) -> Drawing | None:
    """One figure of :func:`plan`, None where the study has not what it shows. Draw and save
    under :func:`.style.project_style`."""
    module = plugins.find(__name__, name, "figure")
    figure = module.draw(data, *case)
    if figure is None:
        return None
    title = module.title(data, *case)
    style.head(figure, title)
    style.sign(figure, source(module, data))
    return Drawing(
        name="-".join((name, *(case[0] if case else ()))),
        section=module.SECTION,
        title=title,
        caption=module.caption(data, *case),
        figure=figure,
    )


def source(module: ModuleType, data: "StudyData") -> str:
    """What the figure of ``module`` is made from, in a line."""
    if hasattr(module, "source"):
        return module.source(data)
    section = getattr(module, "RUNS_OF", None)
    return data.source(getattr(data.config, section) if section else None)
