"""What several experiments' sections and their checks share."""

from typing import TYPE_CHECKING, Any

from lrrt.core import networks
from lrrt.core.checks import check_fields, check_listed, check_names, check_range
from lrrt.errors import InputError

if TYPE_CHECKING:
    from lrrt.config import Config
    from lrrt.config.schema import StudySection


class HasRuns:
    """A section that asks for nothing where ``runs`` is 0."""

    runs: int

    @property
    def enabled(self) -> bool:
        return self.runs > 0


def check_has_weights(study: "StudySection", section: str) -> None:
    if "weights" not in study.sweeps:
        words = f"a list with 'weights', which {section} needs"
        raise InputError("study.sweeps", study.sweeps, words)


def check_swept(config: "Config", key: str, protocol: str, runs: str) -> None:
    """A protocol at the scale of the weights sweep; ``runs``: the key that asks for it."""
    section, name = runs.split(".")
    check_has_weights(config.study, section)
    if protocol not in config.protocols:
        raise InputError(key, protocol, f"one of: {', '.join(sorted(config.protocols))}")
    whole = config.data.train_images // config.sweep.batch_size
    if not config.sweep.steps and not config.protocols[protocol].ramp.steps and whole < 10:
        raise InputError(
            runs,
            getattr(getattr(config, section), name),
            "0; an epoch has fewer than 10 whole batches of sweep.batch_size",
        )


def check_scale(config: "Config", prefix: str, settings: Any) -> None:
    """``batch_size`` and ``depth``, where they are not those of ``sweep`` and ``model``."""
    if settings.batch_size is not None:
        check_range(f"{prefix}.batch_size", settings.batch_size, 1, config.data.train_images)
    if settings.depth is None:
        return
    if not hasattr(config.model, "depth"):
        words = f"null with model.name = {config.model.name}, which has no depth"
        raise InputError(f"{prefix}.depth", settings.depth, words)
    try:
        networks.check(config.model.of_depth(settings.depth))
    except InputError as error:
        raise InputError(f"{prefix}.depth", settings.depth, error.expected) from None


def check_probed(config: "Config", prefix: str, settings: Any) -> None:
    """A section of ``protocols`` and ``runs``, which need to fit only where there are runs."""
    names, key = settings.protocols, f"{prefix}.protocols"
    check_fields(prefix, settings)
    check_names(key, names)
    check_listed(key, names)
    for name in names if settings.runs else []:
        check_swept(config, key, name, f"{prefix}.runs")
    check_scale(config, prefix, settings)
