"""Trainings of one small network at many learning rates, seeds and policies, at once.

A run says ``stacked``: it is then the same, to the bit, in whatever stack it is carried out, one of
one included; beside the run that is not, it differs by rounding, so the two have their own keys.
"""

import dataclasses
import time

import numpy as np

from lrrt import plugins
from lrrt.core import networks, weights
from lrrt.datasets import Dataset
from lrrt.errors import InputError
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Result
from lrrt.runs.training import TRAINING_COLUMNS, Batches, columns, versions_with

MOST = 64  # runs in a stack: more gain nothing


def stacks(specs: list[RunSpec]) -> list[tuple[RunSpec, ...]]:
    """The runs as they are carried out together, in the order of the first of each stack."""
    found: dict[str, list[RunSpec]] = {}
    for spec in specs:
        found.setdefault(_stack_key(spec) if spec.stacked else spec.key, []).append(spec)
    return [
        tuple(runs[first : first + MOST])
        for runs in found.values()
        for first in range(0, len(runs), MOST)
    ]


def _stack_key(spec: RunSpec) -> str:
    """What the runs of a stack have in common."""
    own = {"lr": 0.0, "policy": "", "weights_seed": 0, "order_seed": 0, "augmentation_seed": None}
    return dataclasses.replace(spec, **own).to_json()


def check(spec: RunSpec) -> None:
    """Raise :class:`InputError` for a run that cannot be stacked."""
    backend = plugins.find("lrrt.backends", spec.backend, "backend")
    if not hasattr(backend, "stack"):
        raise InputError("stacked", True, f"false; backend is {spec.backend}, which has no stacks")
    wanted = {"kind": "training", "device": "cpu", "precision": "float32"}
    for key, value in wanted.items():
        if getattr(spec, key) != value:
            raise InputError("stacked", True, f"false; {key} is {getattr(spec, key)}, not {value}")
    if spec.weights_from is not None:
        raise InputError("stacked", True, "false where weights_from is set")


def execute_stack(specs: tuple[RunSpec, ...], dataset: Dataset) -> list[Result]:
    """Carry out a stack: of each run what :func:`lrrt.runs.execute.execute` gives of a training,
    with its share of the time as its own.

    Raises
    ------
    InputError
        For runs that cannot be stacked.
    """
    started = time.perf_counter()
    for spec in specs:
        check(spec)
    backend = plugins.find("lrrt.backends", specs[0].backend, "backend")
    first, protocol = specs[0], specs[0].protocol
    shape, classes = dataset.train_images.shape[1:], len(dataset.classes)
    nodes = networks.module_of(first.model).nodes(first.model, shape, classes)
    initial = [
        weights.draw(nodes, protocol.weights, protocol.dense_bias, spec.weights_seed)
        for spec in specs
    ]
    stack = backend.stack(nodes, protocol, initial, threads=first.threads)
    orders = list(dict.fromkeys((spec.order_seed, spec.augmentation_seed) for spec in specs))
    which = np.array([orders.index((s.order_seed, s.augmentation_seed)) for s in specs])
    feeds = [
        Batches(dataclasses.replace(first, order_seed=order, augmentation_seed=other), dataset)
        for order, other in orders
    ]
    train, test = feeds[0].evaluation_sets
    lrs = np.stack([_lrs(spec) for spec in specs], axis=1)
    epochs, steps = first.epochs, first.steps
    losses = np.full((epochs * steps, len(specs)), np.nan)
    evaluations = np.full((epochs, len(specs), 4), np.nan)
    for epoch in range(epochs):
        for step in range(epoch * steps, (epoch + 1) * steps):
            images, labels = map(np.stack, zip(*(f.train(step) for f in feeds), strict=True))
            losses[step] = stack.step(images, labels, which, lrs[step])
        evaluations[epoch, :, :2] = stack.evaluate(*train)
        evaluations[epoch, :, 2:] = stack.evaluate(*test)
    seconds = (time.perf_counter() - started) / len(specs)
    record = {"versions": versions_with(backend), "seconds": seconds, "stack": len(specs)}
    return [
        _result(lrs[:, i], losses[:, i], evaluations[:, i], steps, record)
        for i in range(len(specs))
    ]


def _lrs(spec: RunSpec) -> np.ndarray:
    policy = plugins.find("lrrt.runs.policies", spec.policy, "policy")
    return policy.lrs(spec.lr, spec.epochs * spec.steps)


def _result(
    lrs: np.ndarray, losses: np.ndarray, evaluations: np.ndarray, steps: int, record: dict
) -> Result:
    """As a training that stops at its first loss that is not finite."""
    rows = np.full((len(evaluations), len(TRAINING_COLUMNS)), np.nan)
    rows[:, 0] = np.arange(1, len(rows) + 1)
    rows[:, 1] = lrs[steps - 1 :: steps]
    bad = np.flatnonzero(~np.isfinite(losses))
    stopped = int(bad[0]) if len(bad) else None
    ran = losses[:stopped]
    done = len(ran) // steps  # whole epochs
    rows[:done, 2] = ran[: done * steps].reshape(done, steps).mean(axis=1)
    rows[:done, 3:] = evaluations[:done]
    own = {"stopped_at_step": stopped, "initial_loss": None, "peak_loss": None}
    if len(ran):
        own |= {"initial_loss": float(ran[0]), "peak_loss": float(ran.max())}
    return Result(columns(rows), record | own)
