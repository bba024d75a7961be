"""A classifier of torchvision, untrained, on PyTorch alone (``model=torchvision model.name=...``).

Its weights are drawn as those of the other networks. Dropout and stochastic depth are off, and the
padding is its own. ``lrrt.backends.torch.torchvision`` builds it.
"""

import re
from dataclasses import dataclass

from lrrt.core.protocol import ModelSection
from lrrt.errors import InputError

BACKENDS = ("torch",)


@dataclass
class Model(ModelSection):
    """``name``: as ``torchvision.models.list_models()`` has it."""

    name: str = "resnet18"
    library: str = "torchvision"


def validate(model: Model) -> None:
    """Raise :class:`InputError` for what cannot be a name; torchvision is asked when it builds."""
    if not re.fullmatch("[a-z0-9_]{1,64}", model.name):
        words = "a name of torchvision's, such as resnet18 or vgg11_bn"
        raise InputError("model.name", model.name, words)
