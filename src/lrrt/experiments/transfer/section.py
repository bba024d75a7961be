"""The section ``divergence``: which pairs of runs are trained, for how long."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lrrt import plugins
from lrrt.core.checks import check_devices, check_fields
from lrrt.core.protocol import within
from lrrt.errors import InputError
from lrrt.experiments._checks import check_has_weights

if TYPE_CHECKING:
    from lrrt.config import Config
    from lrrt.config.schema import StudySection


KEY = "divergence"


@dataclass
class Pairs:
    """How many pairs of runs A, B of ``case``, named ``<backend>-<protocol>``, are trained.

    Weights B of each of its ``pairs`` at the maximum LRs of A and B; of the first ``swaps`` weights
    A as well; of the first ``grids`` both weights at all LRs, which has the swap in it.
    """

    case: str
    pairs: int = within(1, 1, 10_000)
    swaps: int = 1
    grids: int = 0

    @property
    def names(self) -> tuple[str, str]:
        """Backend and protocol."""
        backend, _, protocol = self.case.partition("-")
        return backend, protocol


@dataclass
class Section:
    """Trainings after the range tests. An epoch has ``steps_per_epoch`` steps (null: all).

    ``cases``: each once; none, and nothing is trained. ``policies``: others than a constant LR, by
    which the grids train at A's and B's maximum LR, too. ``devices``, ``precision``: as in
    :class:`lrrt.config.Sweep`.
    """

    cases: list[Pairs] = field(
        default_factory=lambda: [Pairs("keras-blog_keras"), Pairs("torch-blog_fastai")]
    )
    policies: list[str] = field(default_factory=list)
    epochs: int = within(3, 1, 10_000)
    steps_per_epoch: int | None = within(None, 1, 1_000_000)
    transfer_epochs: int = within(3, 1, 10_000)  # of the A -> B cell
    reference_lr: float = within(0.1, 1e-12, 1e6)
    precision: str = "float32"
    devices: dict[str, str] = field(default_factory=dict)

    @property
    def enabled(self) -> bool:
        return bool(self.cases)


def _check_cases(cases: list[Pairs], study: "StudySection") -> None:
    known = [f"{backend}-{name}" for backend in study.backends for name in study.protocols]
    for i, entry in enumerate(cases):
        key = f"divergence.cases[{i}]"
        if entry.case not in known or entry.case in (other.case for other in cases[:i]):
            words = f"<backend>-<protocol>, none twice, of: {', '.join(known)}"
            raise InputError(f"{key}.case", entry.case, words)
        check_fields(key, entry)
        for name in ("swaps", "grids"):
            count = getattr(entry, name)
            if not 0 <= count <= entry.pairs:
                words = f"a number from 0 to {key}.pairs = {entry.pairs}"
                raise InputError(f"{key}.{name}", count, words)


def _check_policies(divergence: "Section") -> None:
    key, policies = "divergence.policies", divergence.policies
    known = [name for name in plugins.names("lrrt.runs.policies") if name != "constant"]
    if set(policies) - set(known) or len(set(policies)) != len(policies):
        words = f"none twice, of: {', '.join(known)} (constant is trained in any case)"
        raise InputError(key, policies, words)
    if policies and divergence.cases and not any(entry.grids for entry in divergence.cases):
        raise InputError(key, policies, "[] where no case of divergence.cases has grids")


def check(config: "Config") -> None:
    study, divergence = config.study, config.divergence
    check_fields("divergence", divergence)
    check_devices("divergence.devices", divergence.devices)
    _check_cases(divergence.cases, study)
    _check_policies(divergence)
    if divergence.cases:
        check_has_weights(study, "divergence")
    for entry in divergence.cases:
        (backend, protocol), weights = entry.names, config.sweeps["weights"]
        name = "runs" if config.protocols[protocol].home == backend else "crossed_runs"
        name = f"limits.{entry.case}" if entry.case in weights.limits else name
        if not weights.runs_on(backend):
            words = f"with {backend}, which divergence.cases asks for"
            raise InputError("sweeps.weights.backends", weights.backends, words)
        runs = weights.count(backend, protocol, config.protocols[protocol].home)
        if runs * len(weights.batch_sizes) < 2:
            words = f"at least 2, or divergence.cases without {entry.case}"
            raise InputError(f"sweeps.weights.{name}", runs, words)
