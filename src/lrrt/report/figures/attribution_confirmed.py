"""From one published range to the other by the factors that matter, at the study's own scale."""

from functools import partial

from lrrt.experiments.attribution.design import STUDY
from lrrt.report.figures import _waterfall

ORDER = 66
SECTION = "Initial weights and batch order"
TITLE = "From one published range to the other, at the study's own scale"
NEEDS = "factors exchanged at the study's own scale (attribution.confirmed_runs)"

headline, caption, draw = (
    partial(function, scale=STUDY)
    for function in (_waterfall.headline, _waterfall.caption, _waterfall.draw)
)
