"""A run, fully specified, and its key."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property

from lrrt.config import ModelConfig, ProtocolConfig

ENGINE_VERSION = 1  # raise when a change of code changes any number


@dataclass(frozen=True)
class RunSpec:
    """One range test (``kind="range_test"``) or one training (``kind="training"``).

    Equal specifications give equal bits on the same machine and library versions. ``steps`` is
    always a number here: of the range test, or of one epoch of a training.
    """

    kind: str
    backend: str
    protocol: ProtocolConfig
    model: ModelConfig
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
    engine_version: int = field(default=ENGINE_VERSION)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, shortest exact floats; the rule is left out of the key."""
        values = dataclasses.asdict(self)
        # What only reads the finished curve does not change the run.
        del values["protocol"]["rule"], values["protocol"]["home"]
        del values["protocol"]["weight_decay"]["recorded"]
        if self.kind == "training":
            del values["protocol"]["ramp"]
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @cached_property
    def key(self) -> str:
        """40 hexadecimal digits that name the result in the store."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:40]
