"""See :mod:`lrrt.core.optimizers.schedule_free`."""

from lrrt.backends.torch.optimizers._library import library_start

start = library_start("schedulefree", "AdamWScheduleFree")
