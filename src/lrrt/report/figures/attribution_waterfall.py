"""From one published range to the other, factor by factor: of the screen's runs."""

from functools import partial

from lrrt.experiments.attribution.design import SCREEN
from lrrt.report.figures import _waterfall

ORDER = 64
SECTION = "Initial weights and batch order"
TITLE = "From one published range to the other"
NEEDS = "runs with factors exchanged between two protocols (attribution.runs)"
RUNS_OF = "attribution"

headline, caption, draw = (
    partial(function, scale=SCREEN)
    for function in (_waterfall.headline, _waterfall.caption, _waterfall.draw)
)
