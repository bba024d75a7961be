"""The section ``attribution``: which factors are exchanged, in how many runs."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lrrt import plugins
from lrrt.core.checks import check_fields, check_names
from lrrt.core.protocol import FACTORS, within
from lrrt.errors import InputError
from lrrt.experiments._checks import HasRuns, check_scale, check_swept

if TYPE_CHECKING:
    from lrrt.config import Config


@dataclass
class Section(HasRuns):
    """Which ``factors`` (:data:`lrrt.core.protocol.FACTORS`) make two protocols' ranges differ.

    Each alone, from both ends, and all of them one after the other in as many random ``orders``
    (the first being the listed one; 0: none). ``runs``: paired seeds of each (0: no attribution).
    Steps, precision and first seed are those of the weights sweep; so are ``batch_size`` and the
    network's ``depth`` where they are null, and then a protocol as it is shares its runs with it.
    ``confirmed``: factors that are exchanged one after the other, as listed and in reverse, in
    ``confirmed_runs`` paired seeds of the study's own network and batch size, too.
    """

    backend: str = "torch"
    start: str = "blog_fastai"
    end: str = "blog_keras"
    factors: list[str] = field(default_factory=lambda: list(FACTORS))
    runs: int = within(0, 0, 100_000)
    orders: int = within(0, 0, 1000)
    confirmed: list[str] = field(default_factory=list)
    confirmed_runs: int = within(0, 0, 100_000)
    batch_size: int | None = None
    depth: int | None = None


def check(config: "Config") -> None:
    """The protocols need to exist, and an epoch to have 10 batches, only where there are runs."""
    attribution, prefix = config.attribution, "attribution"
    plugins.check("lrrt.backends", attribution.backend, f"{prefix}.backend")
    check_fields(prefix, attribution)
    for name, least in (("factors", 1), ("confirmed", 0)):
        listed = getattr(attribution, name)
        if len(listed) < least or len(set(listed)) != len(listed) or set(listed) - FACTORS.keys():
            words = f"at least {least}, none twice, of: {', '.join(FACTORS)}"
            raise InputError(f"{prefix}.{name}", listed, words)
    for name in ("start", "end"):
        key, protocol = f"{prefix}.{name}", getattr(attribution, name)
        check_names(key, [protocol])
        if attribution.runs:
            check_swept(config, key, protocol, f"{prefix}.runs")
    if attribution.runs and attribution.start == attribution.end:
        raise InputError(f"{prefix}.end", attribution.end, f"another than {prefix}.start")
    check_scale(config, prefix, attribution)
