"""Twenty runs (or however many) with new initial weights: the loss band and the suggested range."""

from matplotlib.figure import Figure

from lrrt.report import style
from lrrt.report.figures import _sweep
from lrrt.report.study import StudyData

ORDER = 30
SECTION = "Initial weights and batch order"
TITLE = "Range tests with new initial weights"
NEEDS = "a weights sweep"
SWEEP = "weights"


def cases(data: StudyData) -> list[tuple[str, str]]:
    return data.cases(SWEEP)


def title(backend: str, protocol: str) -> str:
    return f"{TITLE}: {style.label(backend, protocol)}"


def caption(data: StudyData, backend: str, protocol: str) -> str:
    return _sweep.caption(data, SWEEP, "new weights and a new batch order", backend, protocol)


def draw(data: StudyData, backend: str, protocol: str) -> Figure | None:
    return _sweep.draw(data, SWEEP, backend, protocol)
