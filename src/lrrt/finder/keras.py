"""Live Keras 3 models: training steps as ``fit`` takes them, put back afterwards.

Needs no TensorFlow where Keras runs on another backend.
"""

import contextlib
import importlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from lrrt.errors import InputError
from lrrt.finder.checks import as_things, check_count
from lrrt.finder.data import (
    ArrayBatches,
    as_batches,
    batch_length,
    check_batching,
    digest,
    limit,
    map_arrays,
    validation_batches,
)
from lrrt.finder.fingerprint import SIMPLE, Fingerprint
from lrrt.finder.live_model import TORCH_DEFAULTS, Batch, Departure, Step
from lrrt.finder.random_states import Later, keep_generator, keep_python_random

#: Attributes that Keras gives models and layers.
OF_KERAS = frozenset(vars(keras.Model())) | {"optimizer", "stop_training", "history", "input_spec"}
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
MANY = 1000  # entries of what a source of data holds, above which they are taken for samples
SHUFFLE_MOVED = (
    "TensorFlow cannot copy this tf.data set: if it shuffles, training afterwards will see other "
    "orders than without the test."
)


def open_session(
    model: keras.Model,
    *,
    loss: Any = None,
    data: Any = None,
    optimizer: Any = None,
    batch_size: int | None = None,
    seed: int = 0,
    accumulate: int | None = None,
    validation: Any = None,
    keep: Any = (),
    **torch_only: Any,
) -> "KerasSession":
    """See :func:`lrrt.range_test` for the parameters.

    Raises
    ------
    InputError
        For one that cannot be tested.
    """
    name = type(model).__name__
    if not isinstance(model, keras.Model):
        raise InputError("model", name, "a keras.Model")
    if not model.compiled or model.optimizer is None:
        raise InputError("model", name, "a compiled one: call model.compile(optimizer, loss) first")
    for key, value in (("loss", loss), ("optimizer", optimizer)):
        if value is not None:
            raise InputError(key, type(value).__name__, "None: a Keras model brings its own")
    for key, value in torch_only.items():
        if value is not TORCH_DEFAULTS[key]:
            raise InputError(key, value, "left out: it is for PyTorch models")
    own = getattr(_inner(model.optimizer), "gradient_accumulation_steps", None) or 1
    if accumulate is not None and check_count("accumulate", accumulate) != own:
        raise InputError(
            "accumulate", accumulate, f"{own}, the gradient_accumulation_steps of the optimiser"
        )
    check_batching(batch_size, seed, data, validation)
    notes: list[str] = []
    if validation is not None:
        if isinstance(validation, keras.utils.PyDataset) and validation.num_batches is None:
            raise InputError("validation", "an endless source", "one whose num_batches is a number")
        wanted = _batches(validation, "validation", batch_size, 0, False, notes)
        validation = validation_batches(wanted)
    return KerasSession(
        model=model,
        data=_batches(data, "data", batch_size, seed, True, notes),
        peeked=_batches(data, "data", batch_size, seed, True, []),
        validation=validation,
        keep=as_things(keep),
        accumulate=own,
        notes=notes,
    )


def _batches(
    data: Any, key: str, batch_size: int | None, seed: int, shuffle: bool, notes: list[str]
) -> Iterable[Batch]:
    if isinstance(data, keras.utils.PyDataset):
        return _Indexed(data)
    if _is_dataset(data):
        from lrrt.finder import keras_tensorflow

        independent = keras_tensorflow.independent(data)
        if independent is None and SHUFFLE_MOVED not in notes:
            notes.append(SHUFFLE_MOVED)
        return data if independent is None else independent
    return as_batches(data, key, batch_size, seed, shuffle)


def _is_dataset(data: Any) -> bool:
    if not ON_TENSORFLOW:
        return False
    from lrrt.finder import keras_tensorflow

    return keras_tensorflow.is_dataset(data)


@dataclass
class _Indexed:
    """A PyDataset, which is read by index."""

    data: keras.utils.PyDataset

    def __iter__(self) -> Iterator[Batch]:
        count = self.data.num_batches
        for index in itertools.count() if count is None else range(count):  # None: no end
            yield self.data[index]


@dataclass
class KerasSession:
    """See :class:`lrrt.finder.live_model.Session`; made by :func:`open_session`."""

    model: keras.Model
    data: Iterable[Batch]
    peeked: Iterable[Batch]  # the same, apart: reading it moves no shuffling of data on
    validation: Iterable[Batch] | None
    keep: tuple
    accumulate: int
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Of a tf.data set that TensorFlow cannot copy, a note says that its order moves on.
        self.own_data = isinstance(self.data, ArrayBatches) or _is_dataset(self.data)

    @contextlib.contextmanager
    def preserve_random_state(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            later = stack.callback
            keep_python_random(later)
            keep_keras_random(later)
            for source in (self.data, self.validation):
                if type(source).__module__.split(".")[0] == "torch":  # a DataLoader
                    from lrrt.finder import torch_state

                    stack.enter_context(torch_state.preserve_random_state([source], ()))
                elif isinstance(source, _Indexed):
                    _keep_source(source.data, later)
            for thing in self.keep:
                _keep_thing(thing, later)
            yield

    def prepare(self) -> None:
        """Build a model that ``fit`` would build, with the draws that ``fit`` would make."""
        if self.model.built:
            return
        with self.preserve_random_state():
            batches = iter(self.peeked)
            first = next(batches, None)
            if batches is self.data:
                self.data = itertools.chain([first], batches)
        if first is not None:
            # One without a call trains by a train_step of its own, on parts that are built.
            with contextlib.suppress(NotImplementedError), _seeds_unmoved(self.model):
                self.model(self._unpack(first)[0])
            for layer in _stateful(self.model):
                layer.reset_state()

    @contextlib.contextmanager
    def preserve_model(self) -> Iterator[None]:
        model = self.model
        _check_variables(model)
        self.optimizers = _optimizers(model)
        if len(self.optimizers) == 1 and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        with contextlib.ExitStack() as stack:
            later = self.later = stack.callback
            _keep_attributes(model, later)
            for layer in model._flatten_layers():
                for name, value in _own_attributes(layer).items():
                    if isinstance(value, SIMPLE):
                        later(vars(layer).__setitem__, name, value)
                    _keep_contents(value, later)
            self._keep_variables(later)
            for part in (*_compiled_parts(model), *self.optimizers):
                _keep_unbuilt(part, later)
            later(model.reset_metrics)  # before that, while it knows those that the test makes
            self.used, self.function, self.steps_taken = None, None, 0
            self.unbuilt = [part for part in _compiled_parts(model) if not part.built]
            yield
            if self.function is not None and has_constant_lr(model.optimizer):
                self.function.remember(self.unbuilt)

    def _keep_variables(self, later: Later) -> None:
        of_optimizers = [v for optimizer in self.optimizers for v in optimizer.variables]
        for variable in [
            *model_variables(self.model),
            *of_optimizers,
            *self.model.metrics_variables,
        ]:
            _keep_variable(variable, later)

    def step(self, batches: list[Batch], lr: float) -> Step:
        if self.used is None:
            self._begin(batches)
        total = penalties = 0.0
        for batch in batches:
            if self.function is None:
                for variable, ratio in self.used:
                    variable.assign(lr * ratio)
                penalty, loss = self._penalty(), _number(self._run("train", batch)["loss"])
            else:
                penalty, loss = self.function(lr, map_arrays(_plain, batch))
            total += loss
            penalties += penalty
        self.steps_taken, self.last_loss = self.steps_taken + 1, total
        count = len(batches)
        return Step((total - penalties) / count, penalties / count, math.nan)

    def _begin(self, batches: list[Batch]) -> None:
        """Find the rates to steer: of one optimiser, or of those of several that train."""
        used = self.optimizers
        if len(used) > 1:
            used = self._stepping(batches)
        rates = [_rate(optimizer) for optimizer in used]
        self.counts = [_number(optimizer.iterations) for optimizer in used]
        self.stepping = used
        self.used = [
            (_steer(optimizer, self.later), rate / max(rates) if max(rates) > 0 else 1.0)
            for optimizer, rate in zip(used, rates, strict=True)
        ]
        if ON_TENSORFLOW and len(self.optimizers) == 1:
            from lrrt.finder.keras_tensorflow import TrainFunction

            batch = map_arrays(_plain, batches[0])
            self.function = TrainFunction.of(self.model, self.used, batch)

    def end(self, lr: float) -> Departure | None:
        if not self.steps_taken:
            return None
        name = type(_inner(self.stepping[0])).__name__
        counts = [_number(optimizer.iterations) for optimizer in self.stepping]
        if counts == self.counts and math.isfinite(self.last_loss):
            raise InputError(
                "model",
                type(self.model).__name__,
                f"one whose train_step steps an optimiser that it holds; {name} took no step",
            )
        found = _rate(self.stepping[0])
        wanted = lr * self.used[0][1]
        if not math.isclose(found, wanted, rel_tol=1e-5):
            raise InputError(
                "optimizer",
                f"{name} at a rate of {found:.3g}",
                f"the rate that the test sets, {wanted:.3g}; the model sets another at each step",
            )
        return None

    def _stepping(self, batches: list[Batch]) -> list[Any]:
        """Those of several optimisers that a training step uses: one is taken, and put back."""
        before = [_number(optimizer.iterations) for optimizer in self.optimizers]
        with self.preserve_random_state(), contextlib.ExitStack() as stack:
            self._keep_variables(stack.callback)
            for part in (*_compiled_parts(self.model), *self.optimizers):
                _keep_unbuilt(part, stack.callback)
            stack.callback(self.model.reset_metrics)
            for batch in batches:
                self._run("train", batch)
            after = [_number(optimizer.iterations) for optimizer in self.optimizers]
        self.model.train_function = None  # it refers to slots of optimisers that are gone
        moved = [o for o, a, b in zip(self.optimizers, before, after, strict=True) if a != b]
        if not moved:
            names = ", ".join(type(_inner(optimizer)).__name__ for optimizer in self.optimizers)
            raise InputError(
                "model",
                type(self.model).__name__,
                f"one whose train_step steps an optimiser that it holds; of {names} none took one",
            )
        return moved

    def _penalty(self) -> float:
        """The weights' regularisers, part of the loss that Keras reports."""
        weights = [w for w in self.model.trainable_weights if w.regularizer is not None]
        return sum((_number(weight.regularizer(weight)) for weight in weights), 0.0)

    def _run(self, kind: str, batch: Batch) -> dict[str, Any]:
        """Logs of one ``train`` or ``test`` step: of this batch alone, since Keras's are running
        means."""
        logs = self._logs(kind, batch)
        if "loss" not in logs:
            raise InputError("model", sorted(logs), f"one whose {kind}_step returns a 'loss'")
        return logs

    def _logs(self, kind: str, batch: Batch) -> dict[str, Any]:
        model = self.model
        model.reset_metrics()
        if ON_TENSORFLOW:  # the very function that fit calls, with the batch just as it comes
            getattr(model, f"make_{kind}_function")()
            return getattr(model, f"{kind}_function")(iter([map_arrays(_plain, batch)]))
        x, y, weights = self._unpack(batch)
        return getattr(model, f"{kind}_on_batch")(x, y, weights, return_dict=True)

    def _unpack(self, batch: Batch) -> tuple[Any, Any, Any]:
        return keras.utils.unpack_x_y_sample_weight(map_arrays(_plain, batch))

    def fingerprint(self, whole: bool) -> dict[str, Any]:
        """See :meth:`lrrt.finder.live_model.Session.fingerprint`; of attributes those that classes
        of the user's own add to a model or a layer."""
        model, optimizers = self.model, _optimizers(self.model)
        known = [*model._flatten_layers(), *optimizers, *model.metrics]
        held = Fingerprint(whole, without=known)
        held.add_random_states()
        for layer in model._flatten_layers():
            for name, value in _own_attributes(layer).items():
                held.add(f"{layer.name}.{name}", value)
        variables = [*model_variables(model), *(v for o in optimizers for v in o.variables)]
        count: Counter[str] = Counter()  # several may have one path
        for variable in variables:
            count[variable.path] += 1
            name = f"{variable.path} ({count[variable.path]})".removesuffix(" (1)")
            held.add(name, np.asarray(keras.ops.convert_to_numpy(variable.value)))
        return held.found

    def evaluate(self) -> tuple[float, float]:
        loss, right, count = 0.0, 0.0, 0
        with self.preserve_random_state(), contextlib.ExitStack() as stack:
            for variable in [*model_variables(self.model), *self.model.metrics_variables]:
                _keep_variable(variable, stack.callback)
            penalty = self._penalty()
            for batch in limit(self.validation):
                logs = {name: _number(value) for name, value in self._run("test", batch).items()}
                size = batch_length(self._unpack(batch)[0])
                loss += (logs["loss"] - penalty) * size
                accuracies = _accuracies(logs)
                right += (logs[accuracies[0]] if accuracies else math.nan) * size
                count += size
        if len(accuracies) > 1:
            note = f"The accuracy is {accuracies[0]}, the first of: {', '.join(accuracies)}."
            self.notes += [note] * (note not in self.notes)
        return loss / count, right / count

    def about(self) -> dict[str, Any]:
        return {
            "framework": f"keras {keras.__version__} on {keras.backend.backend()}",
            "model": type(self.model).__name__,
            "optimizer": type(_inner(self.model.optimizer)).__name__,
            "weights": digest([variable.value for variable in self.model.weights]),
        }


def _number(value: Any) -> float:
    return float(np.sum(keras.ops.convert_to_numpy(value)))


def _accuracies(logs: Iterable[str]) -> list[str]:
    """The names of accuracies: of the whole first, those of the top few classes last. An output's
    name comes before (``p_accuracy``); ``accel_loss`` and ``accel_mae`` are none."""
    found = [name for name in logs if re.fullmatch(r"(.*[^a-z])?acc(uracy)?[^a-z]*", name.lower())]
    return sorted(found, key=lambda name: (name not in ("accuracy", "acc"), "top" in name))


def _stateful(layer: keras.Layer) -> list[keras.layers.RNN]:
    """Recurrent layers, it or within, whose state lasts from batch to batch."""
    rnns = [part for part in layer._flatten_layers() if isinstance(part, keras.layers.RNN)]
    return [rnn for rnn in rnns if rnn.stateful]


def model_variables(layer: keras.Layer) -> list[keras.Variable]:
    """All variables, and the states of recurrent layers, which Keras keeps apart."""
    states = keras.tree.flatten([rnn.states for rnn in _stateful(layer)])
    return [*layer.variables, *(state for state in states if state is not None)]


def _optimizers(model: keras.Model) -> list[Any]:
    """Those that it was compiled with and those that it holds, by itself or in lists and dicts."""
    held = [model.optimizer]
    for value in vars(model).values():
        values = value.values() if isinstance(value, dict) else value
        held += values if isinstance(value, list | tuple | dict) else [value]
    optimizers = [thing for thing in held if isinstance(thing, keras.optimizers.Optimizer)]
    wrapped = {
        id(_inner(optimizer)) for optimizer in optimizers if _inner(optimizer) is not optimizer
    }
    return list({id(o): o for o in optimizers if id(o) not in wrapped}.values())


def _compiled_parts(model: keras.Model) -> list[Any]:
    parts = (getattr(model, name, None) for name in ("_compile_loss", "_compile_metrics"))
    return [part for part in parts if part is not None]


def _rate(optimizer: Any) -> float:
    return _number(optimizer.learning_rate)


def _inner(optimizer: Any) -> Any:
    """The optimiser that a LossScaleOptimizer wraps, or itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _check_variables(model: keras.Model) -> None:
    name = type(model).__name__
    if not model.variables:
        raise InputError("model", name, "a model with parameters")
    if not model.trainable_variables:
        raise InputError("model", name, "one with a parameter to train; all are frozen")
    for layer in model._flatten_layers(include_self=False):
        if not layer.built and type(layer).build is not keras.Layer.build:
            raise InputError(
                "model",
                f"{name} with {layer.name}",
                "one whose layers are built; this one is used by train_step alone: call it on a "
                "batch first",
            )
    optimizer = _inner(model.optimizer)
    known = getattr(optimizer, "_trainable_variables", None)
    if optimizer.built and known:
        missing = {id(v) for v in model.trainable_variables} - {id(v) for v in known}
        if missing:
            raise InputError(
                "optimizer",
                type(optimizer).__name__,
                "the optimiser of this model's trainable variables; it was built for others, so "
                "compile with a new one",
            )


def _keep_attributes(model: keras.Model, later: Later) -> None:
    """Functions made by ``fit`` are left alone: they have state, and run several steps at once
    where ``steps_per_execution`` says so."""
    for name, value in (
        ("train_function", None),
        ("test_function", None),
        ("steps_per_execution", 1),
        ("stop_training", None),
    ):
        if hasattr(model, name):
            before = getattr(model, name)
            later(setattr, model, name, before)
            if name != "stop_training":
                setattr(model, name, value)


@contextlib.contextmanager
def _seeds_unmoved(model: keras.Model) -> Iterator[None]:
    """Within, ``model`` is built by a call; seeds of layers are then where ``fit`` would begin."""
    with contextlib.ExitStack() as stack:
        known = {id(variable) for variable in model.variables}
        for variable in model.variables:
            _keep_variable(variable, stack.callback)
        yield
    for variable in model.variables:
        if id(variable) not in known and variable.path.endswith("seed_generator_state"):
            seed, _ = keras.ops.convert_to_numpy(variable.value)
            variable.assign(np.array([seed, 0], variable.dtype))  # the second counts the draws


def _own_attributes(layer: keras.Layer) -> dict[str, Any]:
    """Those that a class of the user's own has added to a layer or a model."""
    if type(layer).__module__.split(".")[0] == "keras":
        return {}
    return {k: v for k, v in vars(layer).items() if k not in OF_KERAS and not k.startswith("_")}


def _keep_source(data: keras.utils.PyDataset, later: Later) -> None:
    """Its counters, generators and short lists; no samples, which may be many."""
    for name, value in vars(data).items():
        if isinstance(value, SIMPLE):
            later(vars(data).__setitem__, name, value)
        elif not hasattr(value, "__len__") or len(value) <= MANY:
            _keep_contents(value, later, arrays=False)


def _keep_contents(value: Any, later: Later, arrays: bool = True) -> None:
    """Generators, and what code fills; past Keras's own way of changing lists and dicts."""
    if isinstance(value, np.ndarray):
        if arrays and value.flags.writeable:
            later(np.copyto, value, value.copy())
    elif not keep_generator(value, later):
        for kind, fill in ((list, list.extend), (dict, dict.update), (set, set.update)):
            if isinstance(value, kind):
                later(fill, value, kind(value))
                later(kind.clear, value)
                for entry in value.values() if kind is dict else value:
                    _keep_contents(entry, later, arrays)


def _keep_unbuilt(part: Any, later: Later) -> None:
    """What compiling left to be built by the first batch is to be built by the first of ``fit``:
    that draws random numbers on some backends."""
    if part is None or getattr(part, "built", True):
        return
    attributes = vars(part)
    before = {k: (v, list(v) if isinstance(v, list) else None) for k, v in attributes.items()}

    def put_back() -> None:
        attributes.clear()
        for name, (value, items) in before.items():
            attributes[name] = value
            if items is not None:
                list.clear(value)
                list.extend(value, items)

    later(put_back)


def _keep_variable(variable: Any, later: Later) -> None:
    value = np.array(keras.ops.convert_to_numpy(variable.value), copy=True)
    later(lambda: variable.assign(value))


def has_constant_lr(optimizer: Any) -> bool:
    return isinstance(getattr(_inner(optimizer), "_learning_rate", None), keras.Variable)


def _steer(optimizer: Any, later: Later) -> Any:
    """The variable that holds the optimiser's LR; a schedule makes room for one meanwhile."""
    current = getattr(_inner(optimizer), "_learning_rate", None)
    if has_constant_lr(optimizer):
        return current
    lr = keras.Variable(0.0, trainable=False, dtype="float32", name="range_test_learning_rate")
    later(setattr, optimizer, "learning_rate", current)
    optimizer.learning_rate = _Held(lr)
    return lr


class _Held(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule whose value is that of a variable."""

    def __init__(self, variable: Any):
        self.variable = variable

    def __call__(self, step: Any) -> Any:
        return self.variable.value

    def get_config(self) -> dict:
        return {}


def keep_keras_random(later: Later) -> None:
    """Keras's global seed generator, for operations without a seed of their own, and the global
    random states of its backend return on leaving."""
    if ON_TENSORFLOW:
        from lrrt.finder import keras_tensorflow

        keras_tensorflow.keep_random(later)
    elif keras.backend.backend() == "torch":
        from lrrt.finder import torch_state

        torch_state.keep_torch_random(later)
    try:
        from keras.src.backend.common import global_state
    except ImportError:  # no public function reads it
        return
    name = "global_seed_generator"
    generator = global_state.get_global_attribute(name)
    if generator is not None:
        _keep_variable(generator.state, later)
    later(global_state.set_global_attribute, name, generator)


def _keep_thing(thing: Any, later: Later) -> None:
    if keep_generator(thing, later):
        return
    if isinstance(thing, keras.Layer):
        for variable in thing.variables:
            _keep_variable(variable, later)
    elif isinstance(thing, keras.random.SeedGenerator):
        _keep_variable(thing.state, later)
    else:
        raise InputError("keep", type(thing).__name__, "random generators and Keras layers")


def _plain(array: Any) -> Any:
    """As Keras's data adapters give it: NumPy's floats in Keras's type, others as they are."""
    if hasattr(array, "detach"):
        array = array.detach().cpu().numpy()
    if isinstance(array, np.ndarray) and array.dtype == np.float64:
        array = array.astype(keras.config.floatx())
    return array


def __getattr__(name: str) -> Any:
    if name != "RangeTestCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # By name: the callback runs range tests, which open sessions of this module.
    return importlib.import_module("lrrt.finder.keras_callback").RangeTestCallback
