"""The learning rate that a live optimiser uses: where it is read, and whether steps follow it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrrt.errors import InputError
from lrrt.finder import departure
from lrrt.finder.live_model import Departure
from lrrt.finder.torch_state import is_optimizer, preserve_model

GROUPS_ALIKE = (
    "All parameter groups have a learning rate of 0, so that there are no ratios to keep: the test "
    "gave all the same."
)
WARM_UP = (
    "The optimiser's own warm-up (warmup_steps={}) stood aside, as a schedule does: with it, each "
    "rate would have been a fraction of the one that is recorded."
)
LR_SCALE = (
    "The parameter groups have an lr_scale from {:.2g} to {:.2g} (layer decay), which only timm's "
    "schedulers apply: the test used the groups' own rates."
)
DECAY = (
    "From a learning rate of {:.3g} on, one step's weight decay of {:.3g} takes away all of a "
    "weight: a loss that does not explode there says nothing. End the test below it."
)
DECOUPLED = frozenset({"Adafactor", "AdamW", "Lion", "Muon", "SGD"})  # a weight times 1 - lr decay
PROBE_SIZE = 4096  # values at most in the parameter that is watched, where there is one so small


def parameters_of(optimizer: Any) -> list[Tensor]:
    """Those of all its groups."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def check_optimizer(optimizer: Any, parameters: Sequence[Tensor]) -> list[dict]:
    """The groups in which ``optimizer``, of a model with ``parameters``, reads its rates.

    Raises
    ------
    InputError
        If it has none, or nothing to train.
    """
    name = None if optimizer is None else type(optimizer).__name__

    def refusal(expected: str) -> InputError:
        return InputError("optimizer", name, expected)

    if not is_optimizer(optimizer):
        raise refusal("the torch.optim.Optimizer of the model")
    if not optimizer.param_groups:
        raise refusal("one with parameter groups; it has none")
    own = {id(parameter) for parameter in parameters}
    held = [p for p in parameters_of(optimizer) if id(p) in own]
    if not held:
        raise refusal("the optimiser of this model; it holds none of its parameters")
    if not any(parameter.requires_grad for parameter in held):
        raise refusal("one that holds a parameter to train; all that it holds are frozen")
    if any(group.get("lr") is None for group in optimizer.param_groups):
        raise refusal(
            "one whose parameter groups all have an lr, which the test raises (Adafactor: lr=1e-3, "
            "relative_step=False)"
        )
    return rate_groups(optimizer)


def rate_groups(optimizer: Any) -> list[dict]:
    """Dictionaries with an ``lr`` each, one a group, that last: the parameter groups, those of an
    optimiser that it wraps, or fastai's ``hypers``.

    Raises
    ------
    InputError
        If there are none.
    """
    attributes = getattr(optimizer, "__dict__", {})
    wanted = optimizer.param_groups
    inner = [value.param_groups for value in attributes.values() if is_optimizer(value)]
    for groups in (wanted, *inner, attributes.get("hypers", ())):
        same = len(groups) == len(wanted) and all("lr" in group for group in groups)
        if same and _are_read(groups, optimizer):
            return list(groups)
    raise InputError(
        "optimizer",
        type(optimizer).__name__,
        "one whose param_groups keep the lr that is set in them; these are made anew at each "
        "access: give the optimiser that it wraps",
    )


def _are_read(groups: Sequence[dict], optimizer: Any) -> bool:
    """Whether a rate set in ``groups`` is the one that the optimiser reports; it is put back."""
    before = [group["lr"] for group in groups]
    try:
        for index, group in enumerate(groups):
            group["lr"] = 0.125 * (index + 1)
        reported = [group["lr"] for group in optimizer.param_groups]
        return all(lr == 0.125 * (index + 1) for index, lr in enumerate(reported))
    finally:
        for group, lr in zip(groups, before, strict=True):
            group["lr"] = lr


def group_ratios(groups: Sequence[dict], keep: bool) -> tuple[list[float], list[str]]:
    """Each parameter group's LR as a share of the largest, and what must be noted.

    Where a warm-up has them all at 0, they are as before the schedule.
    """
    lrs = [float(group["lr"]) for group in groups]
    if keep and not max(lrs) > 0:
        lrs = [float(group.get("initial_lr", 0)) for group in groups]
    if keep and max(lrs) > 0:
        return [lr / max(lrs) for lr in lrs], []
    return [1.0] * len(lrs), [GROUPS_ALIKE] if keep and len(lrs) > 1 else []


def group_notes(groups: Sequence[dict]) -> list[str]:
    """What the groups hold that bears on the rate, and the test does not follow."""
    notes = []
    if warm_up := max(_number(group, "warmup_steps") for group in groups):
        notes.append(WARM_UP.format(int(warm_up)))
    scales = [_number(group, "lr_scale", 1.0) for group in groups]
    lrs = [float(group["lr"]) for group in groups]
    ratios = np.array(lrs) / max(lrs) if max(lrs) > 0 else np.ones(len(lrs))
    if min(scales) < max(scales) and not np.allclose(ratios, np.array(scales) / max(scales)):
        notes.append(LR_SCALE.format(min(scales), max(scales)))
    return notes


def _number(group: dict, name: str, default: float = 0.0) -> float:
    value = group.get(name, default)
    return float(value) if isinstance(value, int | float) else default


class Steering:
    """Sets the rates of an optimiser, and finds out whether it uses them.

    ``groups``: where they are read; ``ratios``: of each to the largest; (groups,) both.
    """

    def __init__(self, optimizer: Any, groups: list[dict], ratios: list[float]):
        self.optimizer, self.groups, self.ratios = optimizer, groups, ratios
        self.rates: list[float] = []  # as set last
        self.estimates: list[float] = []  # of the scale that the optimiser puts to the rate

    def begin(self) -> None:
        """For the first step: no warm-up, and training where the optimiser has modes."""
        for group in self.optimizer.param_groups:
            if _number(group, "warmup_steps"):
                group["warmup_steps"] = type(group["warmup_steps"])(0)
        self.set_mode("train")
        self.estimates = []

    def set_mode(self, mode: str) -> bool:
        """Call the optimiser's own ``train()`` or ``eval()``; False where it has none."""
        switch = getattr(self.optimizer, mode, None)
        if callable(switch):
            switch()
        return callable(switch)

    def set(self, lr: float) -> None:
        self.rates = []
        for group, ratio in zip(self.groups, self.ratios, strict=True):
            rate = lr * ratio
            if isinstance(group["lr"], Tensor):  # captured in a graph, maybe: stay in place
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
            self.rates.append(rate)

    def check(self, cause: str = "something") -> None:
        """Raise :class:`InputError` if the rates, after a step, are not those that were set."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            found = group["lr"]
            if found is not rate and not math.isclose(float(found), rate, rel_tol=1e-5):
                raise InputError(
                    "optimizer",
                    f"{type(self.optimizer).__name__} at a rate of {float(found):.3g}",
                    f"the rate that the test sets, {rate:.3g}; {cause} sets another at each step "
                    "(a schedule or a hook: let it pause)",
                )

    def note_estimate(self) -> None:
        """Remember the scale that Prodigy and D-Adaptation put to the rate (``d``)."""
        scale = self.optimizer.param_groups[0].get("d")
        if isinstance(scale, float | int) or isinstance(scale, Tensor) and scale.numel() == 1:
            self.estimates.append(float(scale))

    def decay_notes(self, lr: float) -> list[str]:
        """What weight decay does by itself at ``lr``, the last rate of a test."""
        groups = self.optimizer.param_groups
        whole = type(self.optimizer).__name__ in DECOUPLED
        decays = [
            _number(group, "weight_decay") * (whole or group.get("decoupled_weight_decay") is True)
            for group in groups
        ]
        share, decay = max(
            (ratio * decay, decay) for ratio, decay in zip(self.ratios, decays, strict=True)
        )
        return [DECAY.format(1 / share, decay)] if lr * share >= 1 - 1e-9 else []

    def departure(self, lr: float, steps_alone: bool = True) -> Departure | None:
        """How the optimiser departs from the rate, None if it follows.

        Asked after the last step at ``lr``, while its gradients are still there; takes steps, which
        an optimiser whose step is given a closure (not ``steps_alone``) cannot.
        """
        low, high = min(self.estimates, default=0), max(self.estimates, default=0)
        if low < high or self.estimates and "d0" in self.optimizer.param_groups[0]:
            clause = (
                f"{type(self.optimizer).__name__} multiplies the rate by its own estimate d, "
                f"which was {low:.2g} to {high:.2g} in the test and grows for longer than that: "
                "its rate is a factor to leave at 1"
            )
            return Departure(clause, 0.0)
        probe = self._probe() if steps_alone else None
        if probe is None:
            return None
        name, gradient = type(self.optimizer).__name__, probe.grad.clone()
        found = departure.measure(name, lr, lambda rate: self._move(probe, gradient, rate))
        if found is None:
            return None
        # What seems not to follow may only lag: rates in a velocity (timm's RMSpropTF), or one used
        # a step later (ASGD). That takes a copy of the state, so it comes second.
        return departure.measure(name, lr, lambda rate: self._effect(probe, gradient, lr, rate))

    def _probe(self) -> Tensor | None:
        """A parameter with a gradient, small if there is one."""
        trained = parameters_of(self.optimizer)
        moving = (p for p in trained if p.grad is not None and not p.grad.is_sparse)
        for parameter in sorted(moving, key=lambda p: p.numel() > PROBE_SIZE):
            if parameter.grad.any() and torch.isfinite(parameter.grad).all():
                return parameter
        return None

    def _move(self, probe: Tensor, gradient: Tensor, rate: float) -> float:
        """How far a step at ``rate``, of all parameters, moves it."""
        return self._moved(probe, gradient, rate).norm().item()

    def _moved(self, probe: Tensor, gradient: Tensor, rate: float, steps: int = 1) -> Tensor:
        before = probe.detach().clone()
        for _ in range(steps):
            probe.grad = gradient.clone()
            self.set(rate)
            self.optimizer.step()
        return (probe.detach() - before).to(
            torch.complex128 if probe.is_complex() else torch.double
        )

    def _effect(self, probe: Tensor, gradient: Tensor, lr: float, rate: float) -> float:
        """How much farther than at next to no rate two steps at ``rate`` move it, from one state;
        at least a thousandth of the way, so that what has no effect is alike at all rates."""
        trained = parameters_of(self.optimizer)
        gradients, ways = [p.grad for p in trained], []
        for each in (rate, lr * 1e-9):
            with preserve_model([], self.optimizer):
                for parameter, held in zip(trained, gradients, strict=True):
                    parameter.grad = held
                ways.append(self._moved(probe, gradient, each, steps=2))
        return max((ways[0] - ways[1]).norm().item(), 1e-3 * ways[1].norm().item())


class Closures:
    """How an optimiser's step wants the function that computes the loss and its gradients."""

    #: Needed, and the gradients before it: SAM takes its first step on them.
    AFTER = "after the gradients"
    ALONE = "alone"
    NONE = "none"


def closure_kind(optimizer: Any) -> str:
    """One of :class:`Closures`, as far as the optimiser's signature tells."""
    if hasattr(optimizer, "first_step") and hasattr(optimizer, "second_step"):
        return Closures.AFTER
    parameter = inspect.signature(optimizer.step).parameters.get("closure")
    required = parameter is not None and parameter.default is inspect.Parameter.empty
    return Closures.ALONE if required else Closures.NONE


def asks_for_closure(error: Exception) -> bool:
    """Whether a step without a closure failed for the want of one."""
    return "closure" in f"{type(error).__name__} {error}".lower()
