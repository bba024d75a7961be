"""Twenty runs (or however many) with new initial weights: the loss band and the suggested range."""

from matplotlib.figure import Figure

from lrrt.analysis.evidence import Case
from lrrt.report import wording
from lrrt.report.figures import _sweep
from lrrt.report.study import StudyData

ORDER = 30
SECTION = "Initial weights and batch order"
TITLE = "Range tests with new initial weights"
NEEDS = "a weights sweep"
SWEEP = "weights"


def cases(data: StudyData) -> list[Case]:
    return data.cases(SWEEP)


def title(case: Case) -> str:
    return f"{TITLE}: {wording.case(*case)}"


def caption(data: StudyData, case: Case) -> str:
    return _sweep.caption(data, SWEEP, "new weights and a new batch order", case)


def draw(data: StudyData, case: Case) -> Figure | None:
    return _sweep.draw(data, SWEEP, case)
