"""Batches from whatever a user trains on, as long as a test needs them."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from lrrt.errors import InputError
from lrrt.finder.checks import check_count
from lrrt.finder.live_model import Batch

ACCEPTED = (
    "batches: a DataLoader, a tf.data.Dataset, a list or another iterable of (inputs, targets); "
    "or arrays as a tuple (x, y), of NumPy, the framework or pandas, with batch_size"
)
READ_ONCE = "The data can be read once: a training will not see what the test has read."
ONE_BATCH = (
    "The data are one batch, given at each step: unless you train so, too, the loss shows how fast "
    "it is memorised."
)
VALIDATION_LIMIT = 10_000  # batches; a validation source that goes on is endless


def leaves(structure: Any) -> Iterator[Any]:
    """The arrays of nested tuples, lists and mappings, in order; None is left out, a
    PackedSequence is one."""
    if isinstance(structure, Mapping):
        for value in structure.values():
            yield from leaves(value)
    elif isinstance(structure, tuple | list) and not hasattr(structure, "batch_sizes"):
        for value in structure:
            yield from leaves(value)
    elif structure is not None:
        yield structure


def map_arrays(function, structure: Any, whole: bool = False) -> Any:
    """``function`` of each array of nested tuples, lists and mappings; None stays None.

    ``whole`` counts a container with a method ``to`` as one array: PyTorch's PackedSequence,
    Hugging Face's BatchEncoding.
    """
    if whole and hasattr(structure, "to"):
        return function(structure)
    if isinstance(structure, Mapping):
        return {key: map_arrays(function, value, whole) for key, value in structure.items()}
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(map_arrays(function, value, whole) for value in structure))
    if isinstance(structure, tuple | list):
        return type(structure)(map_arrays(function, value, whole) for value in structure)
    return None if structure is None else function(structure)


def shape_of(leaf: Any) -> tuple[int, ...] | None:
    """The shape of an array; None for what has none (a graph, a nested tensor)."""
    try:
        return tuple(int(n) for n in leaf.shape)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return None


def sample_shapes(batch: Batch) -> list[tuple[int, ...] | str]:
    """The shape of each array of ``batch`` without its first axis, the batch."""
    shapes = [(leaf, shape_of(leaf)) for leaf in leaves(batch)]
    return [type(leaf).__name__ if shape is None else shape[1:] for leaf, shape in shapes]


def batch_length(batch: Batch) -> int:
    """Samples in ``batch``: the graphs of a PyTorch Geometric batch, else by its first array with a
    shape; 1 where that has no length."""
    if isinstance(graphs := getattr(batch, "num_graphs", None), int):
        return graphs
    for leaf in leaves(batch):
        shape = shape_of(leaf)
        if shape is not None:
            return shape[0] if shape else 1
    return 1


def digest(structure: Any) -> str:
    """SHA-256 of the values in ``structure``, its first 16 hexadecimal digits: of arrays, and of
    what objects of other classes hold. It never depends on where in memory something is."""
    found = hashlib.sha256()
    for leaf in leaves(structure):
        for values in _values(leaf, {}):
            found.update(values)
    return found.hexdigest()[:16]


def _values(leaf: Any, seen: dict[int, Any]) -> Iterator[bytes]:
    """Bytes that tell ``leaf`` from another of its class."""
    leaf = leaf.data if isinstance(leaf, tuple) else leaf
    if isinstance(leaf, bool | int | float | complex | str | bytes | np.ndarray | np.generic):
        yield np.ascontiguousarray(leaf).tobytes()
        return
    if hasattr(leaf, "detach") and hasattr(leaf, "is_floating_point"):
        leaf = leaf.detach().cpu()
        if getattr(leaf, "is_nested", False):
            for part in leaf.unbind():
                yield from _values(part, seen)
            return
        leaf = leaf.float() if leaf.is_floating_point() else leaf
    if hasattr(leaf, "__array__"):
        try:
            yield np.ascontiguousarray(leaf).tobytes()
            return
        except (TypeError, ValueError, RuntimeError):  # a sparse tensor
            yield np.array(repr(leaf)).tobytes()
            return
    yield type(leaf).__name__.encode()
    if id(leaf) in seen:
        return
    seen[id(leaf)] = leaf
    if callable(getattr(leaf, "to_dict", None)):  # PyTorch Geometric
        held = leaf.to_dict()
    else:
        slots = [
            n for cls in type(leaf).__mro__ for n in np.atleast_1d(getattr(cls, "__slots__", ()))
        ]
        held = getattr(leaf, "__dict__", None) or {n: getattr(leaf, n, None) for n in slots}
    for part in leaves(dict(held)):
        yield from _values(part, seen)


def is_arrays(data: Any) -> bool:
    """Whether ``data`` is arrays ``(x, y)``, ``(x,)`` or ``(x, y, sample weights)``, x perhaps
    nested."""
    if not isinstance(data, tuple) or len(data) not in (1, 2, 3):
        return False
    if len(data) == 1 and isinstance(data[0], tuple | list):  # one batch
        return False
    arrays = list(leaves(data))
    return all(hasattr(a, "__array__") and len(getattr(a, "shape", ())) > 0 for a in arrays)


class ArrayBatches:
    """Whole batches of arrays, in a new order at each pass, drawn from ``seed`` alone; without
    ``shuffle`` all in their own order, the last batch maybe smaller."""

    def __init__(self, arrays: tuple, batch_size: int, seed: int = 0, shuffle: bool = True):
        # A framework's own tensors stay as they are, where they are.
        self.arrays = map_arrays(lambda a: a if _is_torch(a) else np.asarray(a), arrays)
        lengths = {len(a) for a in leaves(self.arrays)}
        if len(lengths) != 1:
            raise InputError("data", sorted(lengths), "arrays of one length")
        self.count = lengths.pop()
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer):
            raise InputError("batch_size", batch_size, "an integer, the batch size of the training")
        if batch_size < 1 or (shuffle and batch_size > max(self.count, 1)):
            raise InputError("batch_size", batch_size, f"from 1 to the {self.count} samples")
        self.batch_size = int(batch_size)
        self.shuffle, self.random = shuffle, np.random.default_rng(seed)

    def __len__(self) -> int:
        count = self.count if self.shuffle else self.count + self.batch_size - 1
        return count // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        order = np.arange(self.count)
        if self.shuffle:
            self.random.shuffle(order)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            chosen = order[start : start + self.batch_size]
            yield map_arrays(lambda a, chosen=chosen: a[chosen], self.arrays)


def _is_torch(array: Any) -> bool:
    return type(array).__module__.split(".")[0] == "torch"


def check_batching(batch_size: int | None, seed: int, data: Any, validation: Any) -> None:
    """Raise :class:`InputError` for a batch size or a seed that data in batches have no use for."""
    check_count("seed", seed, low=0)
    if data is None or is_arrays(data):
        return
    if batch_size is not None and not is_arrays(validation):
        raise InputError(
            "batch_size",
            batch_size,
            "None where data come in batches; arrays are given as a tuple (x, y), of NumPy, the "
            "framework or pandas",
        )
    if seed:
        raise InputError(
            "seed", seed, "0 where data come in batches: it draws the order of arrays alone"
        )


def as_batches(
    data: Any, key: str, batch_size: int | None, seed: int = 0, shuffle: bool = True
) -> Iterable[Batch]:
    """``data`` itself, or its arrays cut into batches.

    Raises
    ------
    InputError
        If ``data`` cannot give batches, or ``batch_size`` lacks or is of no use.
    """
    if data is None:
        raise InputError(key, None, ACCEPTED)
    if is_arrays(data):
        if batch_size is None:
            raise InputError(
                "batch_size", None, f"the batch size of the training, since {key} is arrays"
            )
        return ArrayBatches(data, batch_size, seed, shuffle)
    if hasattr(data, "__array__"):
        raise InputError(key, "one array", ACCEPTED)
    if isinstance(data, list) and len({np.ndim(a) for a in data if hasattr(a, "__array__")}) > 1:
        raise InputError(key, "a list of arrays of several dimensions", ACCEPTED)
    # Not by iter(data): that already draws a DataLoader's seeds and starts its workers.
    if hasattr(data, "__iter__"):
        return data
    if not hasattr(data, "__getitem__"):
        raise InputError(key, type(data).__name__, ACCEPTED)
    return Indexed(data) if hasattr(data, "__len__") else data


def is_stream(data: Any) -> bool:
    """Whether a loader reads from where no index leads: what it reads first may take long."""
    return "IterableDataset" in {
        kind.__name__ for kind in type(getattr(data, "dataset", 0)).__mro__
    }


class Indexed:
    """Batches that are read by index; their number alone says where they end."""

    def __init__(self, data: Any):
        self.data = data

    def __iter__(self) -> Iterator[Batch]:
        for index in range(len(self.data)):
            yield self.data[index]


def endless(data: Iterable[Batch], needed: int, notes: list[str]) -> Iterator[Batch]:
    """Batch after batch; ``data`` is read again whenever it runs out. ``notes`` is told if it is
    one batch.

    Raises
    ------
    InputError
        While running: if there is no batch; or if ``data`` can be read once only (a generator) and
        runs out before ``needed`` batches.
    """
    given = 0
    if hasattr(data, "__next__"):
        notes.append(READ_ONCE)
    while True:
        before = given
        for batch in data:
            if given == before and given and READ_ONCE in notes:
                notes.remove(READ_ONCE)  # it began anew
            given += 1
            yield batch
        if given == 0:
            raise InputError("data", "no batch", "at least one batch")
        if given == before:  # a generator; an iterator may well begin anew
            raise InputError(
                "data",
                f"{given} batches, to be read once",
                f"at least {needed}, or fewer steps, or a source that can be read again "
                "(a list, a DataLoader)",
            )
        if given == 1:
            notes.append(ONE_BATCH)


def validation_batches(data: Iterable[Batch]) -> Iterable[Batch]:
    """A source for many evaluations: a one-shot iterator is kept in memory.

    Raises
    ------
    InputError
        If it holds no batch, or does not end.
    """
    if hasattr(data, "__next__"):
        data = list(itertools.islice(data, VALIDATION_LIMIT + 1))
        if len(data) > VALIDATION_LIMIT:
            raise InputError(
                "validation", "an endless source", f"at most {VALIDATION_LIMIT} batches"
            )
    return data


def limit(data: Iterable[Batch]) -> Iterator[Batch]:
    """One pass over validation batches.

    Raises
    ------
    InputError
        If there is none, or they do not end.
    """
    given = 0
    for batch in data:
        given += 1
        if given > VALIDATION_LIMIT:
            raise InputError(
                "validation", "an endless source", f"at most {VALIDATION_LIMIT} batches"
            )
        yield batch
    if given == 0:
        raise InputError("validation", "no batch", "at least one batch")
