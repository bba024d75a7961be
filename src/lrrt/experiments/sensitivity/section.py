"""The section ``instrument``: which settings of the range test are changed."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lrrt import plugins
from lrrt.core.checks import check_ramp
from lrrt.core.protocol import CHOICES, STEPS, Ramp, within
from lrrt.errors import InputError
from lrrt.experiments._checks import HasRuns, check_probed

if TYPE_CHECKING:
    from lrrt.config import Config


KEY = "instrument"


@dataclass
class Section(HasRuns):
    """What the reading of ``protocols`` owes to the instrument; ``runs``: paired seeds (0: none).

    Trained on ``backend`` with other ``steps``, ramp ``ranges`` [start, end] and ``shapes``, one of
    them changed at a time. ``restarts``: so many constant LRs between 0.001 and 10, each trained at
    for ``restart_steps`` from the same weights (0: none). What acts on a finished curve is replayed
    on those of the weights sweep, of protocols that the study has. ``batch_size``, ``depth``: as in
    :class:`lrrt.experiments.attribution.section.Section`.
    """

    backend: str = "torch"
    protocols: list[str] = field(default_factory=lambda: ["blog_keras", "blog_fastai"])
    runs: int = within(0, 0, 100_000)
    steps: list[int] = within([], *STEPS)
    ranges: list[list[float]] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    restarts: int = within(0, 0, 1000)
    restart_steps: int = within(30, *STEPS)
    batch_size: int | None = None
    depth: int | None = None


def check(config: "Config") -> None:
    settings, prefix = config.instrument, "instrument"
    plugins.check("lrrt.backends", settings.backend, f"{prefix}.backend")
    check_probed(config, prefix, settings)
    for ends in settings.ranges:
        if len(ends) != 2:
            raise InputError(f"{prefix}.ranges", list(ends), "pairs [start, end]")
        check_ramp(f"{prefix}.ranges", Ramp(*ends))
    for shape in settings.shapes:
        if shape not in CHOICES["shape"]:
            allowed = ", ".join(CHOICES["shape"])
            raise InputError(f"{prefix}.shapes", shape, f"one of: {allowed}")
    for name, labels in (  # as lrrt.experiments.sensitivity.design.variants names them
        ("steps", settings.steps),
        ("ranges", [f"{start:g} to {end:g}" for start, end in settings.ranges]),
        ("shapes", settings.shapes),
    ):
        if len(set(labels)) != len(labels):
            listed = ", ".join(map(str, labels))
            raise InputError(
                f"{prefix}.{name}", getattr(settings, name), f"each once (these are: {listed})"
            )
