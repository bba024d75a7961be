"""The rules and margins that every verdict uses, in one file: the log of this file is their record.

Frozen on 2026-11-30. They were chosen after the runs of `reports/blog` and `reports/resnet20` had
been seen, so every verdict on these two studies is exploratory; on runs made later they are fixed
beforehand. What was mended after runs were seen:

- 2026-11-30: the verdicts "holds", "does not hold" and "undecided" became grades. Claims 5 (two
  spreads of different sets of weights), 14 (two sweeps that count different things) and 15 (half of
  the smoothed slope) had rules that could not be met or refuted; 2 asked whether medians lie in
  bars, which is no test of equality; 3 and 4 pooled two statements; 6 and 11 judged by the fallback
  and by the curve alone; 10 and 12 were closed to any study but the post's; 7, 8, 13, 16 and 17
  counted outcomes in pairs and now compare accuracies, or harm, by independent sets of weights.
"""

CONFIDENCE = 0.95  # of every interval
SIGNIFICANCE = 0.05  # of every test, and of all 17 claims together by Holm's step-down

# The smallest effects of interest.
DECADES = 0.3  # of a learning rate: a factor of two
ACCURACY = 0.05  # five points of validation accuracy
FACTOR = 3.0  # between two learning rates or two costs
SHARE = 0.5  # "most": more than one half of the runs
ALWAYS = 0.9  # "is": in nine of ten runs or more
SAFE = 1 / 3  # fewer sets of weights than this are harmed
SAFE_UP_TO = 0.3  # LR up to which a training speaks for the min LR below it: three times the usual
BIMODAL_BELOW = 0.3  # max LR of the Keras protocol's low mode, which is at 0.06 to 0.16

# How a curve is read: running median of five steps, which does not lag.
PLATEAU_TOLERANCE = 0.10  # of the level: what counts as flat over the first tenth of the steps
DESCENT_SHARE = 0.10  # of the level: what counts as a fall
RISE = 0.10  # above the lowest raw loss: what counts as risen

UNSTEADY = 2.0  # 90 % quantile over 10 % of times of runs that are alike: beyond, no ratio of times
EXPLORATORY = ("blog", "resnet20")  # studies whose runs were seen before the rules were fixed
