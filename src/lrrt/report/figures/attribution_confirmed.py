"""From one published range to the other by the factors that matter, at the study's own scale."""

from matplotlib.figure import Figure

from lrrt.report.figures import _waterfall
from lrrt.report.study import StudyData
from lrrt.runs.ladder import STUDY

ORDER = 66
SECTION = "Initial weights and batch order"
TITLE = "From one published range to the other, at the study's own scale"
NEEDS = "factors exchanged at the study's own scale (attribution.confirmed_runs)"


def findings(data: StudyData) -> list[str]:
    return _waterfall.findings(data, STUDY)


def caption(data: StudyData) -> str:
    return _waterfall.caption(data, STUDY)


def draw(data: StudyData) -> Figure | None:
    return _waterfall.draw(data, STUDY)
