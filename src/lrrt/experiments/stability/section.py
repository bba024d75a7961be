"""The section ``mechanism``: how many ramps have their curvature measured."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lrrt.core.protocol import within
from lrrt.experiments._checks import HasRuns, check_probed

if TYPE_CHECKING:
    from lrrt.config import Config


KEY = "mechanism"


@dataclass
class Section(HasRuns):
    """Ramps of ``protocols`` with and without clipping, on torch; ``runs``: seeds (0: none).

    The curvature is measured at ``points`` steps of each. ``batch_size``, ``depth``: as in
    :class:`lrrt.experiments.attribution.section.Section`.
    """

    protocols: list[str] = field(default_factory=lambda: ["blog_keras", "blog_fastai"])
    runs: int = within(0, 0, 100_000)
    points: int = within(12, 1, 100_000)
    batch_size: int | None = None
    depth: int | None = None


def check(config: "Config") -> None:
    check_probed(config, "mechanism", config.mechanism)
