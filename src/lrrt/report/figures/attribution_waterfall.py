"""From one published range to the other, factor by factor: of the screen's runs."""

from matplotlib.figure import Figure

from lrrt.report.figures import _waterfall
from lrrt.report.study import StudyData
from lrrt.runs.ladder import SCREEN

ORDER = 64
SECTION = "Initial weights and batch order"
TITLE = "From one published range to the other"
NEEDS = "runs with factors exchanged between two protocols (attribution.runs)"
RUNS_OF = "attribution"


def findings(data: StudyData) -> list[str]:
    return _waterfall.findings(data, SCREEN)


def caption(data: StudyData) -> str:
    return _waterfall.caption(data, SCREEN)


def draw(data: StudyData) -> Figure | None:
    return _waterfall.draw(data, SCREEN)
