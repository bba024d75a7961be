"""D-Adaptation (Defazio and Mishchenko 2023, arXiv 2301.07733): Adam that finds its own step size.

The library ``dadaptation`` (3.2), in PyTorch, on a CPU. The LR is a factor of what it finds: train
at 1, with any policy. Weight decay is decoupled, or there is none.
"""

from lrrt.core.optimizers.prodigy import BACKENDS as BACKENDS
from lrrt.core.optimizers.prodigy import READS as READS
from lrrt.core.optimizers.prodigy import validate as validate
