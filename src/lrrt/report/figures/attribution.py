"""Which factor makes the gap between the two protocols: all factors, at the scale of the screen."""

from matplotlib.figure import Figure

from lrrt.experiments.attribution.design import SCREEN
from lrrt.report import wording
from lrrt.report.figures import APPENDIX
from lrrt.report.figures.attribution_confirmed import effects, interval_words, lollipops
from lrrt.report.study import StudyData

ORDER = 210
SECTION = APPENDIX
RUNS_OF = "attribution"


def title(data: StudyData) -> str:
    rows = effects(data, "min_lr", SCREEN)
    clear = rows[~rows["whole"] & ((rows["low"] > 0) | (rows["high"] < 0))]
    names = wording.listed(clear["factor"]) if len(clear) else "no single factor"
    return f"What clearly changes min LR between the two protocols: {names}"


def caption(data: StudyData) -> str:
    return (
        "All factors in which the two protocols differ, exchanged one at a time: by how much each "
        f"multiplies the suggestion. {interval_words(data, SCREEN)}"
    )


def draw(data: StudyData) -> Figure | None:
    return lollipops(data, SCREEN)
