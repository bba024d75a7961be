"""The sections of ``params.yaml``, their keys, types and defaults."""

import itertools
import typing
from dataclasses import dataclass, field, make_dataclass
from typing import Any

from lrrt import plugins
from lrrt.core import networks
from lrrt.core.networks import OF_NETWORK
from lrrt.core.protocol import STEPS, DataSection, Protocol, within


@dataclass
class StudySection:
    """Which runs a study is made of."""

    name: str = "quick"
    backends: list[str] = field(default_factory=lambda: ["keras", "torch"])
    protocols: list[str] = field(default_factory=lambda: ["blog_keras", "blog_fastai"])
    sweeps: list[str] = field(
        default_factory=lambda: ["weights", "order", "batch_size", "validation"]
    )


@dataclass
class Sweep:
    """A named list of runs. ``crossed_runs`` are for a protocol on a backend not its home.

    ``backends``: those of the study that run it (null: all). ``limits``: the most runs of a case,
    named ``<backend>-<protocol>``, where it is to have fewer. ``devices``: of a backend that is not
    to run on ``launcher.device``. ``precision``: ``tfloat32`` is float32 with products in TF32,
    which GPUs have; runs on a CPU are then in float32.
    """

    runs: int = within(1, 1, 100_000)
    crossed_runs: int = within(1, 0, 100_000)
    new_weights: bool = True  # new initial weights each run
    new_order: bool = True  # new batch order and augmentation each run
    batch_sizes: list[int] = field(default_factory=lambda: [128])
    steps: int | None = within(None, *STEPS)  # overrides the protocol's; null keeps it
    whole_epoch: bool = False  # one epoch of whole batches overrides them; not beside ``steps``
    validation: str = "none"  # none | running | batch: statistics used by batch norm
    precision: str = "float32"  # float32 | tfloat32 | bfloat16
    seed: int = within(0, 0, 2**62)  # first seed
    backends: list[str] | None = None
    limits: dict[str, int] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)

    def count(self, backend: str, protocol: str, home: str) -> int:
        """Runs of one batch size of a case; ``home``: the protocol's."""
        runs = self.runs if home == backend else self.crossed_runs
        return min(runs, self.limits.get(f"{backend}-{protocol}", runs))

    def runs_on(self, backend: str) -> bool:
        return self.backends is None or backend in self.backends


@dataclass
class SweepDefaults:
    runs: int = within(4, 1, 100_000)
    crossed_runs: int = within(2, 0, 100_000)
    batch_size: int = 128
    steps: int | None = within(None, *STEPS)
    precision: str = "float32"
    seed: int = within(0, 0, 2**62)
    devices: dict[str, str] = field(default_factory=dict)


class Scaled(typing.Protocol):
    """A section that may name a batch size and a network's depth of its own."""

    batch_size: int | None
    depth: int | None


@dataclass
class ReportSection:
    title: str = "How reliable is the learning-rate finder?"
    note: str | None = None  # beside the table of runs: on what machines
    dpi: int = within(110, 20, 1200)
    loss_quantiles: list[float] = field(default_factory=lambda: [0.1, 0.9])
    bootstrap_resamples: int = within(2000, 100, 1_000_000)
    beside: list[str] = field(default_factory=list)  # at most one study, judged together with it


@dataclass
class LauncherSection:
    """Where runs execute. ``workers: null`` means the cores, or the GPUs; more workers than GPUs
    share them, so that several seeds train at once on each (and beside them no more than the cores
    work on the CPU). ``options`` are the launcher's own (its
    module names them). Of a run's key are ``threads`` and ``device`` alone. ``device``: of all runs
    that neither the sweep nor ``divergence`` puts elsewhere; a section with a ``batch_size`` or
    ``depth`` of its own is always here."""

    name: str = "local"
    workers: int | None = within(None, 1, 4096)
    threads: int = within(1, 1, 1024)
    device: str = "cpu"  # cpu | cuda
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Scale:
    """What all runs of a study share."""

    study: StudySection = field(default_factory=StudySection)
    data: DataSection = field(default_factory=DataSection)
    model: Any = field(default_factory=lambda: networks.find({}).Model(), metadata=OF_NETWORK)
    protocols: dict[str, Protocol] = field(default_factory=dict)
    sweep: SweepDefaults = field(default_factory=SweepDefaults)
    sweeps: dict[str, Sweep] = field(default_factory=dict)


#: By the key that it has in ``params.yaml``: the module with an experiment's ``Section`` and
#: ``check`` (:mod:`lrrt.experiments`).
SECTIONS = {
    getattr(module, "KEY", name): module
    for name, module in plugins.parts("lrrt.experiments", "section").items()
}
_Experiments = make_dataclass(
    "_Experiments",
    [
        (key, module.Section, field(default_factory=module.Section))
        for key, module in SECTIONS.items()
    ],
    bases=(_Scale,),
)


@dataclass
class Config(_Experiments):
    """``params.yaml``: a section of each experiment, beside those of all."""

    report: ReportSection = field(default_factory=ReportSection)
    launcher: LauncherSection = field(default_factory=LauncherSection)

    @property
    def cases(self) -> list[tuple[str, str, str]]:
        """Backend, protocol and sweep of every table of curves."""
        study = self.study
        everything = itertools.product(study.backends, study.protocols, study.sweeps)
        return [case for case in everything if self.sweeps[case[2]].runs_on(case[0])]
