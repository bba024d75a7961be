"""The contract of a live model: what each framework offers the finder."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

Batch = Any  # what the framework's adapter understands; mostly (inputs, targets)
#: Parameters of :func:`lrrt.range_test` for PyTorch only, and their defaults.
TORCH_DEFAULTS = {
    "batch_loss": None,
    "autocast": None,
    "scaler": None,
    "clip_norm": None,
    "keep_ratios": True,
    "create_graph": False,
}


class Step(NamedTuple):
    """Of one training step, taken before the update: mean loss of its batches, L2 penalty apart,
    global gradient norm before clipping (NaN where it is not measured)."""

    loss: float
    penalty: float
    grad_norm: float


class Departure(NamedTuple):
    """How an optimiser departs from the rates that were set: a clause; and the highest rate that it
    used, 0 where it used none."""

    rate_departure: str
    highest_rate: float


class Session(Protocol):
    """A live model with its optimiser and its data, to be trained for some steps and put back.

    Opening one checks its parts and changes nothing.
    """

    data: Iterable[Batch]
    validation: Iterable[Batch] | None
    accumulate: int  # batches of one step
    notes: list[str]
    own_data: bool  # whether ``data`` was made for the test, so that their order may move on

    def prepare(self) -> None:
        """What a first step of training would make, and a test must not take for its own."""

    def preserve_random_state(self) -> AbstractContextManager[None]:
        """On leaving, random states (Python, NumPy, framework, the data's own) are as before."""

    def preserve_model(self) -> AbstractContextManager[None]:
        """On leaving, model and optimiser are as before; within, they can train."""

    def step(self, batches: list[Batch], lr: float) -> Step | None:
        """Train one step at ``lr``; None if the batches have no loss."""

    def end(self, lr: float) -> Departure | None:
        """Asked after the last step, at ``lr``: how the optimiser departs from the rates that were
        set, None if it follows them.

        Raises
        ------
        InputError
            If no step moved the model.
        """

    def fingerprint(self, whole: bool) -> dict[str, Any]:
        """What model, optimiser and random states hold, by name, to be compared with another
        moment's; see :class:`lrrt.finder.fingerprint.Fingerprint`."""

    def evaluate(self) -> tuple[float, float]:
        """Mean loss and accuracy (NaN if there is none) on the validation batches, which leaves
        model and random states alone."""

    def about(self) -> dict[str, Any]:
        """What was tested, in plain words and numbers; the digest of its weights."""
