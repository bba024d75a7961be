"""See :mod:`lrrt.core.optimizers.adamw`: the update of Adam decays weights by the protocol."""

from lrrt.backends.torch.optimizers.adam import start as start
