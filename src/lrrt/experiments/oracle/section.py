"""The section ``oracle``: which settings are trained over a grid of learning rates."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lrrt import plugins
from lrrt.core import networks
from lrrt.core.checks import check_data, check_fields, check_listed, check_names, check_range
from lrrt.core.networks import OF_NETWORK
from lrrt.core.protocol import WITHIN, DataSection, within
from lrrt.errors import InputError

if TYPE_CHECKING:
    from lrrt.config import Config

#: By optimiser: the highest rate of the coarse grid.
HIGHEST = {"sgd": 10.0, "adam": 1.0, "adamw": 1.0}
#: Optimisers that find their own rate: the LR that their authors train at, and the schedules that
#: make sense with them.
RATE_FREE = {
    "prodigy": (1.0, ("constant", "one_cycle")),
    "dadapt_adam": (1.0, ("constant", "one_cycle")),
    "schedule_free": (0.0025, ("constant",)),
}
MEASURES = ("accuracy", "log_loss")
EVALUATIONS = 10  # of a training


@dataclass
class SettingSection:
    """A data set (a key of ``oracle.data``), a network, a protocol (a key of ``protocols``) with
    its optimiser, a batch size and a number of ``steps``, a multiple of ten.

    ``measure``: what its best rate and its collapses are judged by. ``tier``: lower ones run first.
    ``repeats``: the setting that this one repeats on another backend or for other steps: it gets a
    coarse grid alone and stays out of all means.
    """

    data: str
    protocol: str
    batch_size: int
    steps: int = field(metadata={WITHIN: (EVALUATIONS, 10_000_000)})
    model: Any = field(metadata=OF_NETWORK)
    backend: str = "torch"
    measure: str = "accuracy"
    tier: int = within(1, 0, 1000)
    repeats: str | None = None


@dataclass
class Section:
    """Trainings over a grid of rates in ``settings`` (none: none): ``docs/ground_truth.md``.

    The coarse grid has ``coarse_seeds`` seeds at half decades over ``decades``, up to 10 for SGD
    and to 1 for Adam and AdamW; the fine one ``fine_seeds`` at quarter decades near the best;
    ``edge_seeds`` train where trainings begin to collapse; each with every policy of ``schedules``.
    ``draws`` range tests for each of ``ramps`` (steps); with ``short_trainings`` also five short
    ones of equal cost. Keys of ``settings``: ``rate_free``, those that optimisers train, too, which
    find their own rate; ``precision``, those with range tests of further ramps; ``same_weights``,
    those whose fine seeds are range-tested; ``policies``, whose coarse grid has further policies.
    ``tiers``: those that run. ``minutes``: no further batch of runs is started after so many (null:
    all; 0: the tables of what is there).
    """

    data: dict[str, DataSection] = field(default_factory=dict)
    settings: dict[str, SettingSection] = field(default_factory=dict)
    schedules: list[str] = field(default_factory=lambda: ["constant", "one_cycle"])
    decades: int = within(5, 2, 8)
    coarse_seeds: int = within(1, 1, 100)
    fine_seeds: int = within(4, 0, 100)
    edge_seeds: int = within(2, 0, 100)
    draws: int = within(6, 1, 1000)
    ramps: list[int] = within([50, 100, 200], 25, 100_000)
    short_trainings: bool = True
    rate_free: list[str] = field(default_factory=list)
    precision: list[str] = field(default_factory=list)
    same_weights: list[str] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)
    tiers: list[int] = field(default_factory=lambda: [1, 2, 3, 4])
    minutes: float | None = within(None, 0, 1_000_000)

    @property
    def enabled(self) -> bool:
        return bool(self.settings)


def check(config: "Config") -> None:
    oracle, prefix = config.oracle, "oracle"
    check_names(f"{prefix}.data", oracle.data)
    check_names(f"{prefix}.settings", oracle.settings)
    for name, data in oracle.data.items():
        check_data(f"{prefix}.data.{name}", data)
    for key, listed in (("schedules", oracle.schedules), ("ramps", oracle.ramps)):
        check_listed(f"{prefix}.{key}", listed)
    for schedule in oracle.schedules:
        if schedule not in ("constant", "one_cycle"):
            words = "a list of 'constant' and 'one_cycle'"
            raise InputError(f"{prefix}.schedules", oracle.schedules, words)
    check_fields(prefix, oracle)
    for key in ("rate_free", "precision", "same_weights", "policies"):
        for name in getattr(oracle, key):
            if name not in oracle.settings or oracle.settings[name].measure != "accuracy":
                words = "keys of oracle.settings that are measured by accuracy"
                raise InputError(f"{prefix}.{key}", name, words)
    for name, setting in oracle.settings.items():
        _check_setting(config, f"{prefix}.settings.{name}", setting)


def _check_setting(config: "Config", prefix: str, setting: SettingSection) -> None:
    oracle = config.oracle
    for key, known in (("data", oracle.data), ("protocol", config.protocols)):
        if getattr(setting, key) not in known:
            words = f"one of: {', '.join(sorted(known))}"
            raise InputError(f"{prefix}.{key}", getattr(setting, key), words)
    optimizer = config.protocols[setting.protocol].optimizer
    if optimizer not in HIGHEST:
        words = f"a protocol whose optimizer is one of: {', '.join(HIGHEST)}"
        raise InputError(f"{prefix}.protocol", setting.protocol, words)
    check_range(
        f"{prefix}.batch_size", setting.batch_size, 1, oracle.data[setting.data].train_images
    )
    check_fields(prefix, setting)
    if setting.steps % EVALUATIONS:
        words = f"a multiple of {EVALUATIONS}: a training is evaluated so often"
        raise InputError(f"{prefix}.steps", setting.steps, words)
    if setting.measure not in MEASURES:
        raise InputError(f"{prefix}.measure", setting.measure, f"one of: {', '.join(MEASURES)}")
    if setting.repeats is not None and setting.repeats not in oracle.settings:
        words = f"a key of oracle.settings: {', '.join(oracle.settings)}"
        raise InputError(f"{prefix}.repeats", setting.repeats, words)
    plugins.check("lrrt.backends", setting.backend, f"{prefix}.backend")
    if prefix.rpartition(".")[2] in oracle.rate_free and (
        setting.backend != "torch" or optimizer == "sgd"
    ):
        words = "settings with the backend torch and the optimizer adam or adamw"
        raise InputError("oracle.rate_free", oracle.rate_free, words)
    try:
        networks.check(setting.model)
    except InputError as error:
        raise InputError(f"{prefix}.{error.key}", error.value, error.expected) from None
    wanted = networks.input_of(networks.module_of(setting.model))
    name = oracle.data[setting.data].name
    if wanted != getattr(plugins.find("lrrt.datasets", name, "data.name"), "GIVES", "images"):
        words = f"data of {wanted}, which the network {setting.model.name} reads"
        raise InputError(f"{prefix}.data", setting.data, words)
