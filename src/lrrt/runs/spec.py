"""A run, fully specified, and its key."""

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from lrrt import plugins
from lrrt.core.optimizers import NUMBERS
from lrrt.core.protocol import ModelSection, Protocol

# Of the numbers, by kind of run: raise each whose runs a change of code gives other numbers.
ENGINE_VERSIONS = {"range_test": 1, "training": 1, "curvature": 1, "instability": 1}
# One version ahead, since it folds, and fuses, on the device.
VALIDATED_ON_GPU = ("torch", "range_test", "cuda", "running")
# Fields younger than the first stored results (dotted), each with the value that those had: there
# it is left out of the key, which is then the same as before. A new field gets a line here.
LEFT_OUT_AT = {
    "augmentation_seed": None,  # the order's
    "measured": (),
    "stacked": False,
    "model.batch_norm": True,
    "model.dropout": 0.0,
    "protocol.optimizer": "sgd",
    "protocol.beta1": 0.9,
    "protocol.beta2": 0.999,
    "protocol.epsilon": 1e-8,
    "protocol.epsilon_hat": False,
}


def _mapping(section) -> dict:
    """``dataclasses.asdict`` without its copies: a sweep may have 100,000 keys."""
    values = {field.name: getattr(section, field.name) for field in dataclasses.fields(section)}
    return {n: _mapping(v) if dataclasses.is_dataclass(v) else v for n, v in values.items()}


@functools.cache
def _read(optimizer: str) -> frozenset[str]:
    """The numbers of a protocol that an optimiser reads."""
    return frozenset(plugins.find("lrrt.core.optimizers", optimizer, "optimizer").READS)


@dataclass(frozen=True)
class RunSpec:
    """One range test (``kind="range_test"``), one whose curvature is measured on the way
    (``kind="curvature"``), one training (``kind="training"``), or one search for the rate at which
    a step first raises its own batch's loss (``kind="instability"``).

    Equal specifications give equal bits on the same machine and library versions. ``steps`` is
    always a number here: of the range test, or of one epoch of a training.
    """

    kind: str
    backend: str
    protocol: Protocol
    model: ModelSection
    data_digest: str  # of the data set, names its content
    weights_seed: int
    order_seed: int
    batch_size: int
    steps: int
    validation: str = "none"
    precision: str = "float32"
    threads: int = 1
    device: str = "cpu"
    lr: float | None = None  # training: the (maximum) learning rate
    epochs: int = 1  # training
    policy: str = "constant"  # training: how the LR moves
    weights_from: str | None = None  # training: backend that exports the initial weights
    measured: tuple[int, ...] = ()  # curvature: before which steps, counted from 0
    augmentation_seed: int | None = None  # of shifts and flips; None: order_seed
    stacked: bool = False  # training: of an MLP, beside others at once (lrrt.runs.stacked)

    def to_json(self) -> str:
        """Canonical JSON (sorted keys, shortest exact floats) of what decides the run's numbers."""
        where = (self.backend, self.kind, self.device, self.validation)
        version = ENGINE_VERSIONS[self.kind] + (where == VALIDATED_ON_GPU)
        values = _mapping(self) | {"engine_version": version}
        # What only reads the finished curve does not change the run.
        del values["protocol"]["rule"], values["protocol"]["home"]
        del values["protocol"]["weight_decay"]["recorded"]
        decay = values["protocol"]["weight_decay"]
        if decay["kind"] == "decoupled":  # the factors weigh the parts of an L2 penalty
            decay |= dict.fromkeys(("conv_factor", "dense_factor", "other_factor"), 1.0)
        if self.kind in ("training", "instability"):
            del values["protocol"]["ramp"]
        read = _read(self.protocol.optimizer)
        defaults = Protocol()
        values["protocol"] |= {n: getattr(defaults, n) for n in NUMBERS if n not in read}
        if self.augmentation_seed == self.order_seed:
            values["augmentation_seed"] = None
        for path, value in LEFT_OUT_AT.items():
            *sections, name = path.split(".")
            section = functools.reduce(dict.__getitem__, sections, values)
            if section.get(name, ...) == value:
                del section[name]
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @cached_property
    def key(self) -> str:
        """40 hexadecimal digits that name the result in the store."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:40]
