"""The section ``variance``: how many weights, orders and augmentations are crossed."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lrrt import plugins
from lrrt.core.checks import check_fields, check_listed, check_names
from lrrt.core.protocol import within
from lrrt.errors import InputError
from lrrt.experiments._checks import check_scale, check_swept

if TYPE_CHECKING:
    from lrrt.config import Config


@dataclass
class Section:
    """Range tests of all combinations of so many initial weights (0: none), batch orders and
    augmentations; with one augmentation it goes with the order, as in a sweep.

    Of a factor with two levels little can be said; take three or more. The rest as in
    :class:`lrrt.experiments.attribution.section.Section`.
    """

    backend: str = "torch"
    protocols: list[str] = field(default_factory=lambda: ["blog_keras", "blog_fastai"])
    weights: int = 0
    orders: int = within(3, 2, 100)
    augmentations: int = within(1, 1, 100)
    batch_size: int | None = None
    depth: int | None = None

    @property
    def enabled(self) -> bool:
        return self.weights > 0


def check(config: "Config") -> None:
    variance, prefix = config.variance, "variance"
    plugins.check("lrrt.backends", variance.backend, f"{prefix}.backend")
    if variance.weights != 0 and not 2 <= variance.weights <= 100:
        raise InputError(f"{prefix}.weights", variance.weights, "0, or a number from 2 to 100")
    check_fields(prefix, variance)
    key, protocols = f"{prefix}.protocols", variance.protocols
    check_names(key, protocols)
    check_listed(key, protocols)
    for protocol in protocols if variance.weights else []:
        check_swept(config, key, protocol, f"{prefix}.weights")
    check_scale(config, prefix, variance)
