"""See :mod:`lrrt.core.optimizers.dadapt_adam`."""

from lrrt.backends.torch.optimizers._library import library_start

start = library_start("dadaptation", "DAdaptAdam", lr=1.0, decouple=True)
