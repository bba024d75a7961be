"""The same initial weights, new batch order each run: does "use the same weights" help?"""

from matplotlib.figure import Figure

from lrrt.analysis.evidence import Case
from lrrt.report import wording
from lrrt.report.figures import _sweep
from lrrt.report.study import StudyData

ORDER = 40
SECTION = "Initial weights and batch order"
TITLE = "Range tests with the same initial weights"
NEEDS = "an order sweep"
SWEEP = "order"


def cases(data: StudyData) -> list[Case]:
    return data.cases(SWEEP)


def title(case: Case) -> str:
    return f"{TITLE}: {wording.case(*case)}"


def caption(data: StudyData, case: Case) -> str:
    return _sweep.caption(data, SWEEP, "the same weights and a new batch order", case)


def draw(data: StudyData, case: Case) -> Figure | None:
    return _sweep.draw(data, SWEEP, case)
