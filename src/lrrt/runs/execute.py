"""Carry out one run, in this process."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import lru_cache, partial
from multiprocessing import get_context

import numpy as np

from lrrt import plugins
from lrrt.backends import Differentiable, Network, Resident, Step
from lrrt.core import instability, networks, ramp, weights
from lrrt.core.network import parameters
from lrrt.datasets import Dataset
from lrrt.errors import InputError
from lrrt.runs.checkpoint import Checkpoint
from lrrt.runs.processes import die_with_parent
from lrrt.runs.spec import RunSpec
from lrrt.runs.stacked import execute_stack
from lrrt.runs.store import Result, Store
from lrrt.runs.training import TRAINING_COLUMNS, Batches, columns, versions_with


def execute(spec: RunSpec, dataset: Dataset, checkpoints: Store | None = None) -> Result:
    """Carry out ``spec`` on ``dataset``.

    A range test records, float64 of shape (steps,), the LR it trained at and, before each update,
    the data loss, the L2 penalty and the gradient norm; with ``spec.validation``, after each
    update the loss and accuracy on all test images. Non-finite losses are recorded like others,
    and the test goes on.

    A training records, of shape (epochs,): ``epoch`` (from 1), ``lr`` of its last step,
    ``train_loss`` (mean loss of its steps), and after its last step, with batch norm's running
    statistics, ``train_eval_loss`` and ``train_accuracy`` on the first tenth of the training
    images (200 to 2,000, not augmented), ``val_loss`` and ``val_accuracy`` on all test images. It
    stops at the first non-finite loss: NaN from that epoch on, and ``record["stopped_at_step"]``
    is that step, counted from 0 (else None). ``record["initial_loss"]`` is the loss of the first
    step, before any update, and ``record["peak_loss"]`` the largest finite loss of a step. With
    ``checkpoints`` it leaves one there after each epoch, where that can be written, and goes on
    from the one that is there.

    A curvature test is a range test, to the bit, and records of the steps ``spec.measured``, NaN
    elsewhere: ``eigenvalue``, the largest of the Hessian of the batch's loss and penalty before
    the update; ``products``, Hessian-vector products that took; ``update_ratio``, the norm of the
    update over that of the trained parameters before it. A loss that is not finite ends these
    series, not the test.

    An instability search records one value, ``lr``: :func:`lrrt.core.instability.of_network` from
    the initial weights, on the first batch; NaN where it finds none.

    Raises
    ------
    InputError
        If no such backend, network or policy exists, and for the curvature on a backend that does
        not measure it.
    """
    if spec.stacked:
        return execute_stack((spec,), dataset)[0]
    started = time.perf_counter()
    backend = plugins.find("lrrt.backends", spec.backend, "backend")
    network = _network(spec, dataset)
    versions = versions_with(backend)
    checkpoint = Checkpoint(checkpoints, spec, network, versions, started)
    training = partial(_training, checkpoint=checkpoint)
    kinds = {"range_test": _range_test, "training": training, "curvature": _curvature}
    kinds["instability"] = _instability
    arrays, record = kinds[spec.kind](spec, dataset, network)
    return Result(arrays, record | {"versions": versions, "seconds": checkpoint.seconds})


def _nodes(spec: RunSpec, backend: str, shape: tuple[int, ...], classes: int) -> list:
    network = networks.module_of(spec.model)
    if backend not in getattr(network, "BACKENDS", [backend]):
        words = f"{', '.join(network.BACKENDS)} with model.name = {spec.model.name}"
        raise InputError("backend", backend, words)
    if not hasattr(network, "nodes"):
        network = plugins.find("lrrt.backends", backend, "backend")
    nodes = network.nodes(spec.model, shape, classes)
    networks.check_nodes(nodes)
    return [replace(n, seed=spec.order_seed) if n.operation == "dropout" else n for n in nodes]


def _build(spec: RunSpec, backend: str, nodes: list, initial: dict[str, np.ndarray]) -> Network:
    return plugins.find("lrrt.backends", backend, "backend").build(
        nodes,
        spec.protocol,
        initial,
        precision=spec.precision,
        threads=spec.threads,
        device=spec.device,
    )


def exported_weights(spec: RunSpec, shape: tuple[int, ...], classes: int) -> dict[str, np.ndarray]:
    """The initial weights of ``spec``, put into ``spec.weights_from`` and exported from there."""
    nodes = _nodes(spec, spec.weights_from, shape, classes)
    drawn = weights.draw(nodes, spec.protocol.weights, spec.protocol.dense_bias, spec.weights_seed)
    return _build(spec, spec.weights_from, nodes, drawn).export()


@lru_cache(maxsize=1)
def exporter(backend: str) -> ProcessPoolExecutor:
    """A process that exports weights from ``backend``; runs that follow one another share it. (Two
    frameworks in one process share threads and allocators, and have crashed each other.)"""
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=die_with_parent)


def _network(spec: RunSpec, dataset: Dataset) -> Network:
    shape, classes = dataset.train_images.shape[1:], len(dataset.classes)
    nodes = _nodes(spec, spec.backend, shape, classes)
    if spec.weights_from is None:
        exporter.cache_clear()
        protocol = spec.protocol
        initial = weights.draw(nodes, protocol.weights, protocol.dense_bias, spec.weights_seed)
    else:
        try:
            pool = exporter(spec.weights_from)
            initial = pool.submit(exported_weights, spec, shape, classes).result()
        except BrokenProcessPool:
            exporter.cache_clear()
            raise
    return _build(spec, spec.backend, nodes, initial)


def _steps(
    dataset: Dataset, network: Network, feed: Batches, lrs: np.ndarray
) -> Callable[[int, int], Iterable[Step]]:
    """``train(first, last)``: those steps, in order, on the device where the network can."""
    if isinstance(network, Resident):
        data = (dataset.train_images, dataset.train_labels, dataset.mean, dataset.std)
        return network.resident(*data, feed.plan, lrs)

    def train(first: int, last: int) -> Iterator[Step]:
        for step in range(first, last):
            yield network.step(*feed.train(step), float(lrs[step]))

    return train


def _range_test(spec: RunSpec, dataset: Dataset, network: Network) -> tuple[dict, dict]:
    feed = Batches(spec, dataset)
    lrs = ramp.training_lrs(spec.protocol.ramp, spec.steps)
    names = ["loss", "penalty", "grad_norm"]
    validating = spec.validation != "none"
    if validating:
        names += ["val_loss", "val_accuracy"]
        test = feed.evaluation(dataset.test_images, dataset.test_labels)
        if isinstance(network, Resident):
            validate = network.validator(*test, spec.validation)
        else:
            validate = partial(network.evaluate, *test, statistics=spec.validation)
    rows = np.empty((spec.steps, len(names)))
    train = _steps(dataset, network, feed, lrs)
    at_a_time = 1 if validating else spec.steps
    for first in range(0, spec.steps, at_a_time):
        for step, taken in enumerate(train(first, first + at_a_time), first):
            rows[step, :3] = taken
        if validating:
            rows[first, 3:] = validate()
    arrays = {"lr": np.asarray(lrs, dtype=np.float64)}
    arrays.update((name, rows[:, i].copy()) for i, name in enumerate(names))
    return arrays, {}


def _curvature(spec: RunSpec, dataset: Dataset, network: Network) -> tuple[dict, dict]:
    if not isinstance(network, Differentiable):
        raise InputError("backend", spec.backend, "torch, where the curvature is measured")
    feed = Batches(spec, dataset)
    lrs = ramp.training_lrs(spec.protocol.ramp, spec.steps)
    train = _steps(dataset, network, feed, lrs)
    names = ("loss", "penalty", "grad_norm", "eigenvalue", "products", "update_ratio")
    rows = np.full((spec.steps, len(names)), np.nan)
    direction, finite = None, True
    for step in range(spec.steps):
        measured = finite and step in spec.measured
        if measured:
            found = network.curvature(*feed.train(step), direction)
            direction, before = found.vector, _parameter_vector(spec, dataset, network)
            rows[step, 3:5] = found.eigenvalue, found.products
        (rows[step, :3],) = train(step, step + 1)
        finite = finite and bool(np.isfinite(rows[step, 0]))
        if measured:
            change = _parameter_vector(spec, dataset, network) - before
            rows[step, 5] = np.linalg.norm(change) / np.linalg.norm(before)
        if not finite:
            rows[step, 3:] = np.nan
    arrays = {"lr": np.asarray(lrs, dtype=np.float64)}
    arrays.update((name, rows[:, i].copy()) for i, name in enumerate(names))
    return arrays, {}


def _instability(spec: RunSpec, dataset: Dataset, network: Network) -> tuple[dict, dict]:
    found = instability.of_network(network, *Batches(spec, dataset).train(0))
    return {"lr": np.array([math.nan if found is None else found])}, {}


def _parameter_vector(spec: RunSpec, dataset: Dataset, network: Network) -> np.ndarray:
    """All trained parameters in a row, float64."""
    nodes = _nodes(spec, spec.backend, dataset.train_images.shape[1:], len(dataset.classes))
    values = network.export()
    flat = [values[p.name].ravel() for p in parameters(nodes) if p.trained]
    return np.concatenate(flat).astype(np.float64)


def _training(
    spec: RunSpec, dataset: Dataset, network: Network, checkpoint: Checkpoint
) -> tuple[dict, dict]:
    feed = Batches(spec, dataset)
    policy = plugins.find("lrrt.runs.policies", spec.policy, "policy")
    lrs = policy.lrs(spec.lr, spec.epochs * spec.steps)
    train, test = feed.evaluation_sets
    rows = np.full((spec.epochs, len(TRAINING_COLUMNS)), np.nan)
    rows[:, 0] = np.arange(1, spec.epochs + 1)
    rows[:, 1] = lrs[spec.steps - 1 :: spec.steps]
    record = {"stopped_at_step": None, "initial_loss": None, "peak_loss": None}
    steps = _steps(dataset, network, feed, lrs)
    for epoch in range(checkpoint.restore(rows, record), spec.epochs):
        losses, first = [], epoch * spec.steps
        for step, taken in enumerate(steps(first, first + spec.steps), first):
            losses.append(taken.loss)
            if not math.isfinite(losses[-1]):
                return columns(rows), record | {"stopped_at_step": step}
            if step == 0:
                record["initial_loss"] = record["peak_loss"] = losses[0]
            record["peak_loss"] = max(record["peak_loss"], losses[-1])
        rows[epoch, 2:] = (
            np.mean(losses),
            *network.evaluate(*train),
            *network.evaluate(*test),
        )
        checkpoint.save(rows[: epoch + 1], record)
    return columns(rows), record
