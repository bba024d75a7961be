"""The same initial weights, new batch order each run: does "use the same weights" help?"""

from matplotlib.figure import Figure

from lrrt.report import style
from lrrt.report.figures import _sweep
from lrrt.report.study import StudyData

ORDER = 40
SECTION = "Initial weights and batch order"
TITLE = "Range tests with the same initial weights"
NEEDS = "an order sweep"
SWEEP = "order"


def cases(data: StudyData) -> list[tuple[str, str]]:
    return data.cases(SWEEP)


def title(backend: str, protocol: str) -> str:
    return f"{TITLE}: {style.label(backend, protocol)}"


def caption(data: StudyData, backend: str, protocol: str) -> str:
    return _sweep.caption(
        data, SWEEP, "the same weights and a new batch order", backend, protocol
    )


def draw(data: StudyData, backend: str, protocol: str) -> Figure | None:
    return _sweep.draw(data, SWEEP, backend, protocol)
