"""Schedule-free AdamW (Defazio et al. 2024, arXiv 2405.15682): an average instead of a schedule.

The library ``schedulefree`` (1.4.1), in PyTorch, on a CPU. It has an LR, which takes the constant
policy; its authors' is 0.0025. What is evaluated is the average of the weights. Batch norm's
running statistics are those of the weights that are trained, not of the average.
"""

from lrrt.core.optimizers.prodigy import BACKENDS as BACKENDS
from lrrt.core.optimizers.prodigy import READS as READS
from lrrt.core.optimizers.prodigy import validate as validate
