"""See :mod:`lrrt.core.optimizers.prodigy`."""

from lrrt.backends.torch.optimizers._library import library_start

start = library_start("prodigyopt", "Prodigy", lr=1.0)
