"""Everything of a live PyTorch model, its optimiser and its random states, put back in place."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import itertools
import random
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lrrt.errors import InputError
from lrrt.finder.data import digest
from lrrt.finder.fingerprint import Fingerprint
from lrrt.finder.random_states import (
    STATELESS,
    Later,
    holds_state,
    keep_generator,
    keep_python_random,
)

SIMPLE = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, np.generic)
#: What every module has: hooks and members, looked after by name or not at all.
OF_EVERY_MODULE = frozenset(vars(nn.Module()))
HOOKS = tuple(sorted(name for name in OF_EVERY_MODULE if "hooks" in name))
OF_TENSORS = ("_backward_hooks", "_post_accumulate_grad_hooks")
WITHIN = 2  # of objects within an attribute of a module
OF_DATA = torch.utils.data.Dataset, torch.utils.data.DataLoader
DEPTH = 4  # of objects within objects: a loader's batch sampler's sampler's generator
MANY = 1000  # entries of a container of data, above which they are taken for samples


@contextlib.contextmanager
def preserve_random_state(data: Iterable[Any], keep: Sequence[Any]) -> Iterator[None]:
    """On leaving, all random states are as before: Python's, NumPy's, PyTorch's on every device;
    ``data`` (loaders, with their samplers and generators), and the things in ``keep``, modules
    whole."""
    with contextlib.ExitStack() as stack:
        later = stack.callback
        keep_python_random(later)
        keep_torch_random(later)
        states = States(later, tensors=False)
        for source in data:
            states.keep(source)
        _keep_accelerate(states)
        modules = [thing for thing in keep if isinstance(thing, nn.Module)]
        stack.enter_context(preserve_model(modules))
        for thing in keep:
            if not isinstance(thing, nn.Module):
                _keep_thing(thing, later)
        yield


def keep_torch_random(later: Later) -> None:
    """PyTorch's global random states, on every device, return on leaving."""
    cpu = torch.get_rng_state()
    later(lambda: torch.set_rng_state(cpu))
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        cuda = torch.cuda.get_rng_state_all()
        later(lambda: torch.cuda.set_rng_state_all(cuda))
    if torch.backends.mps.is_available():
        mps = torch.mps.get_rng_state()
        later(lambda: torch.mps.set_rng_state(mps))


def _keep_accelerate(states: States) -> None:
    """accelerate's record of the accumulation that is under way, one for the process; meanwhile
    every step is a whole one."""
    accelerate = sys.modules.get("accelerate.state")
    if accelerate is None or not accelerate.GradientState._shared_state:
        return
    shared = accelerate.GradientState()
    states.keep(shared)
    shared.sync_gradients = True


def _keep_thing(thing: Any, later: Later) -> None:
    if keep_generator(thing, later):
        return
    if isinstance(thing, torch.Generator):
        _keep_torch_generator(thing, later)
    elif hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict"):
        state = copy.deepcopy(thing.state_dict())
        later(lambda: thing.load_state_dict(state))
    else:
        raise InputError(
            "keep", type(thing).__name__, "random generators, and objects with state_dict"
        )


def _keep_torch_generator(generator: torch.Generator, later: Later) -> None:
    state = generator.get_state()
    later(lambda: generator.set_state(state))


@contextlib.contextmanager
def preserve_model(
    modules: Iterable[nn.Module], *others: Any, without: Iterable[Any] = ()
) -> Iterator[States]:
    """On leaving, ``modules`` and ``others`` (an optimiser, objects of a trainer) are as before,
    each tensor in its old place; what is ``without`` is left alone, though they refer to it.

    It costs one copy of their tensors, in main memory, so that a model that just fits its device
    still does.
    """
    with contextlib.ExitStack() as stack:
        later = stack.callback
        states = States(later)
        states.seen = {id(thing): thing for thing in without}
        for thing in (*modules, *others):
            if thing is not None:
                states.keep(thing)
        for parameter in states.copies.parameters():
            # The gradient is set aside, not copied: training makes a new one.
            gradient, parameter.grad = parameter.grad, None
            later(lambda p=parameter, g=gradient: setattr(p, "grad", g))
            later(lambda p=parameter, r=parameter.requires_grad: p.requires_grad_(r))
        yield states


class _Copies:
    """Copies of tensors, each tensor once however often it is added."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def add(self, tensor: Tensor) -> None:
        if id(tensor) not in self.kept:
            copied = tensor.detach().to("cpu", copy=True)
            self.kept[id(tensor)] = tensor, copied

    def parameters(self) -> list[Tensor]:
        """Those that can have a gradient: plain tensors of an optimiser, too."""
        tensors = [tensor for tensor, _ in self.kept.values()]
        return [t for t in tensors if isinstance(t, nn.Parameter) or t.is_leaf and t.requires_grad]

    def have_moved(self, tensors: Iterable[Tensor]) -> bool:
        """Whether any of ``tensors`` is no longer what it was."""
        pairs = (self.kept[id(tensor)] for tensor in tensors if id(tensor) in self.kept)
        return any(not torch.equal(t.detach().cpu(), copied) for t, copied in pairs)

    @torch.no_grad()
    def put_back(self) -> None:
        for tensor, copied in self.kept.values():
            if tensor.shape != copied.shape:  # resized meanwhile
                tensor.data = copied.to(tensor.device)
                continue
            try:
                tensor.detach().copy_(copied)
            except RuntimeError:  # an expanded view of less memory
                if not torch.equal(tensor.detach().cpu(), copied):
                    tensor.data = copied.to(tensor.device)


class States:
    """Remembers live objects and what they hold, each once, and puts all back in place.

    ``tensors``: also the values of tensors and arrays; without it (for data) what they hold is
    left alone, and only generators, counters, and which object stands where return.
    """

    def __init__(self, later: Later, tensors: bool = True):
        self.later, self.tensors, self.copies = later, tensors, _Copies()
        self.seen: dict[int, Any] = {}
        later(self.copies.put_back)

    def keep(self, value: Any, depth: int = DEPTH) -> None:
        """Remember ``value``, whatever it is."""
        if isinstance(value, SIMPLE) or id(value) in self.seen:
            return
        if isinstance(value, Tensor):
            if self.tensors:
                self._keep_tensor(value)
            return
        self.seen[id(value)] = value
        if isinstance(value, nn.Module):
            if self.tensors:
                self._keep_module(value)
        elif isinstance(value, torch.Generator):
            _keep_torch_generator(value, self.later)
        elif keep_generator(value, self.later):
            pass
        elif isinstance(value, list | dict | set | deque | tuple | np.ndarray):
            self._keep_contents(value, depth)
        elif is_optimizer(value):
            if self.tensors:
                self._keep_optimizer(value, depth)
        elif _is_function(value):
            for thing in held_by(value).values():
                self.keep(thing, depth)
        elif self.tensors and isinstance(value, OF_DATA):
            pass  # they are looked after with the data of the test
        elif depth and holds_state(value):
            self._keep_attributes(value, depth - 1)

    def _keep_tensor(self, tensor: Tensor) -> None:
        self.copies.add(tensor)
        for hooks in hooks_of(tensor, OF_TENSORS).values():
            self.keep(hooks)

    def _keep_methods(self, thing: Any) -> None:
        """What the code of its class works with beside its attributes: a generator of a module."""
        for method in methods_of(type(thing)):
            self.keep(method)

    def _keep_attributes(self, thing: Any, depth: int) -> dict[str, Any]:
        """Its attributes are bound again; what they hold is remembered, too."""
        self._keep_methods(thing)
        attributes = vars(thing)
        before = dict(attributes)
        self.later(_refill, attributes, before)
        if isinstance(thing, torch.utils.data.DataLoader):
            # With persistent workers, iterating would rewind the iterator of the user's own loop.
            attributes["_iterator"] = None
        for name, value in before.items():
            if name != "_iterator":
                self.keep(value, depth)
        return before

    def _keep_contents(self, value: Any, depth: int) -> None:
        """What code fills: entries return, in place."""
        if isinstance(value, np.ndarray):
            if self.tensors and value.flags.writeable and not isinstance(value, np.memmap):
                self.later(np.copyto, value, value.copy())
            return
        if not self.tensors and len(value) > MANY:
            return
        items = dict(value) if isinstance(value, dict) else list(value)
        if not isinstance(value, tuple):
            self.later(_refill, value, items)
        for item in list(items.values() if isinstance(items, dict) else items):
            self.keep(item, depth)

    def _keep_module(self, module: nn.Module) -> None:
        """Parameters and buffers (also those that no state dict holds) by name and value;
        attributes: the training mode, counters, tensors, generators, the lists, dicts, sets and
        arrays that code fills, and what objects in them hold; the modules in it likewise."""
        attributes = vars(module)
        if isinstance(module, torch.jit.ScriptModule):
            self._keep_scripted(module)
        else:
            for members in (module._parameters, module._buffers):
                self.later(_refill, members, dict(members))
                for tensor in members.values():
                    if tensor is not None:
                        self._keep_tensor(tensor)
        for hooks in hooks_of(module, HOOKS).values():
            self.keep(hooks)
        self._keep_methods(module)
        before = dict(attributes)
        in_place = {}
        for name, value in before.items():
            if name not in OF_EVERY_MODULE and not isinstance(value, (*SIMPLE, nn.Module)):
                self.keep(value, WITHIN)
                in_place[name] = value
        has_extra = module.__class__.get_extra_state is not nn.Module.get_extra_state
        extra = copy.deepcopy(module.get_extra_state()) if has_extra else None

        def put_back() -> None:
            if len(attributes) > len(before):
                for name in attributes.keys() - before.keys():
                    del attributes[name]
            attributes.update(before)
            if has_extra:
                module.set_extra_state(extra)  # it may bind copies
                attributes.update(in_place)

        self.later(put_back)
        for child in module.children():
            self.keep(child)

    def _keep_scripted(self, module: torch.jit.ScriptModule) -> None:
        """What TorchScript holds, outside Python: tensors, the training mode, counters, lists."""
        kept = {name: getattr(module, name) for name in module._concrete_type.get_attributes()}
        for name, value in kept.items():
            if isinstance(value, Tensor):
                self.copies.add(value)
            self.later(setattr, module, name, value)

    def _keep_optimizer(self, optimizer: Any, depth: int) -> None:
        """Options of each parameter group, the LR first among them; each parameter's slots; what
        is kept by hand; and all that of optimisers that it wraps or holds (SAM, Lookahead,
        containers of several)."""
        if not hasattr(optimizer, "__dict__"):
            self._keep_groups(optimizer)
            return
        attributes = vars(optimizer)
        before = dict(attributes)
        self.later(_refill, attributes, before)  # "_opt_called": a schedule's sign of a step
        inner = [value for value in before.values() if is_optimizer(value)]
        for value in before.values():
            self.keep(value, depth - 1)
        self._keep_groups(optimizer)
        own_dict = getattr(type(optimizer), "state_dict", torch.optim.Optimizer.state_dict)
        if own_dict is not torch.optim.Optimizer.state_dict:
            own = optimizer.state_dict()
            if not any(own.keys() == other.state_dict().keys() for other in inner):
                # It may hold more than its attributes do.
                own = copy.deepcopy(own)
                self.later(lambda: optimizer.load_state_dict(own))

    def _keep_groups(self, optimizer: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                self._keep_tensor(parameter)
            self.keep(group)
        self.keep(getattr(optimizer, "state", {}))


def _refill(container: Any, items: Any) -> None:
    """Give ``container`` these entries, in their order."""
    container.clear()
    if isinstance(container, list | deque):
        container.extend(items)
    else:
        container.update(items)


def hooks_of(thing: Any, names: Iterable[str]) -> dict[str, Any]:
    """Those of a module or a tensor that are there, by the name of their kind."""
    found = {name: getattr(thing, name, None) for name in names}
    return {name: hooks for name, hooks in found.items() if hooks}


def methods_of(kind: type) -> list[FunctionType]:
    """The functions of a class and of those above it, without those of ``STATELESS`` packages."""
    classes = (vars(above) for above in kind.__mro__ if not _is_of_package(above))
    return [value for members in classes for value in members.values() if _is_function(value)]


def is_optimizer(value: Any) -> bool:
    return not isinstance(value, type) and all(
        hasattr(value, name) for name in ("step", "param_groups")
    )


class TorchFingerprint(Fingerprint):
    """Of modules, optimisers and tensors, too; :meth:`values` ends it."""

    def __init__(self, whole: bool, without: Iterable[Any] = ()):
        super().__init__(whole, without)
        self.sums: dict[torch.device, dict[str, Tensor]] = {}

    def add_object(self, name: str, value: Any, depth: int) -> None:
        if isinstance(value, Tensor):
            self._add_tensor(name, value)
        elif isinstance(value, nn.Module):
            self._add_module(name, value)
        elif isinstance(value, torch.Generator):
            self.found[name] = value.get_state().numpy().tobytes()
        elif is_optimizer(value):
            self._add_optimizer(name, value, depth)
        elif _is_function(value):
            for key, thing in held_by(value).items():
                self.add(f"{name}'s {key}", thing, depth)
        else:
            super().add_object(name, value, depth)

    def _add_tensor(self, name: str, tensor: Tensor) -> None:
        if tensor.is_leaf and tensor.grad is not None:
            self.add(f"{name}.grad", tensor.grad)
        for kind, hooks in hooks_of(tensor, OF_TENSORS).items():
            self.add(f"{name}.{kind}", hooks)
        if self.whole:
            self.found[name] = digest(tensor)
            return
        # One of another layout (sparse, nested, quantised) has no such sum.
        with contextlib.suppress(RuntimeError):
            self.sums.setdefault(tensor.device, {})[name] = _bits(tensor.detach())

    def _add_module(self, name: str, module: nn.Module) -> None:
        self.found[f"{name}.training"] = module.training
        own = ((k, v) for k, v in vars(module).items() if k not in OF_EVERY_MODULE)
        tensors = module.named_parameters(recurse=False), module.named_buffers(recurse=False)
        hooks = hooks_of(module, HOOKS).items()
        for key, value in itertools.chain(*tensors, module.named_children(), own, hooks):
            self.add(f"{name}.{key}", value)

    def _add_optimizer(self, name: str, optimizer: Any, depth: int) -> None:
        for index, group in enumerate(optimizer.param_groups):
            for key, value in group.items():
                if key != "params":
                    self.add(f"{name}.param_groups[{index}][{key!r}]", value)
            for number, parameter in enumerate(group["params"]):
                held = f"{name}.param_groups[{index}]['params'][{number}]"
                self.add(held, parameter)
                slots = getattr(optimizer, "state", {}).get(parameter)
                self.add(f"the state of {held}", slots)
        for key, value in getattr(optimizer, "__dict__", {}).items():
            if key not in ("param_groups", "state", "defaults") and not key.startswith("_"):
                self.add(f"{name}.{key}", value, depth - 1)

    def values(self) -> dict[str, Any]:
        """All that was found; the sums are fetched from their devices at once."""
        for sums in filter(None, self.sums.values()):
            self.found |= zip(sums, torch.stack(list(sums.values())).tolist(), strict=True)
        return self.found


def _bits(tensor: Tensor) -> Tensor:
    """The sum of its bits, taken as integers, on its device."""
    held = tensor.reshape(-1).view(torch.uint8)
    whole = held.numel() - held.numel() % 8
    if whole and held.storage_offset() % 8 == 0:
        return held[:whole].view(torch.int64).sum() + held[whole:].sum()
    return held.sum()


def held_by(function: Any, depth: int = WITHIN) -> dict[str, Any]:
    """By name, what with a state of its own ``function`` works with (:func:`has_state`): in its
    closure, among the globals that it names, the arguments of a partial and the attributes of what
    a method is bound to, in lists and dicts there, and the same of functions there, ``depth``
    deep."""
    found: dict[str, Any] = {}
    for name, value in _worked_with(function).items():
        if type(value) in (list, tuple, dict) and len(value) <= MANY:
            entries = value.items() if type(value) is dict else enumerate(value)
            values = {f"{name}[{_shown(key)}]": entry for key, entry in entries}
        else:
            values = {name: value}
        for key, thing in values.items():
            if has_state(thing):
                found[key] = thing
            elif depth and (_is_function(thing) or callable(thing) and holds_state(thing)):
                found = held_by(thing, depth - 1) | found
    return found


def _shown(key: Any) -> str:
    return repr(key) if isinstance(key, SIMPLE) else type(key).__name__


def _worked_with(function: Any) -> dict[str, Any]:
    if isinstance(function, functools.partial):
        arguments = dict(enumerate(function.args)) | function.keywords
        return {str(name): value for name, value in arguments.items()} | {"func": function.func}
    if inspect.ismethod(function):
        bound = function.__self__
        of_bound = vars(bound) if holds_state(bound) else {}
        return {"self": bound} | _worked_with(function.__func__) | of_bound
    if not inspect.isfunction(function):
        call = inspect.getattr_static(type(function), "__call__", None)
        of_call = _worked_with(call) if inspect.isfunction(call) else {}
        return of_call | (vars(function) if holds_state(function) else {})
    if _is_of_package(function):
        return {}
    code, cells = function.__code__, function.__closure__ or ()
    named = {name: function.__globals__.get(name) for name in _names(code)}
    enclosed = zip(code.co_freevars, cells, strict=True)
    return named | {name: cell.cell_contents for name, cell in enclosed if _is_filled(cell)}


@functools.cache
def _names(code: CodeType) -> tuple[str, ...]:
    """Those that it and the functions and comprehensions in it look up."""
    within = (_names(part) for part in code.co_consts if isinstance(part, CodeType))
    return tuple(dict.fromkeys(itertools.chain(code.co_names, *within)))


def _is_function(value: Any) -> bool:
    return isinstance(value, FunctionType | MethodType | functools.partial)


def _is_of_package(thing: Any) -> bool:
    """Whether a class or a function is of a package that holds no state of a training."""
    return str(thing.__module__).partition(".")[0] in STATELESS


#: What a function may work with and change.
HELD = (nn.Module, torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


def has_state(value: Any) -> bool:
    """Whether it is a module, an optimiser, a random generator, or has a state dict (a scaler)."""
    if isinstance(value, HELD):
        return True
    if isinstance(value, type | ModuleType):
        return False
    of_class = type(value)  # a proxy answers for whatever an object is asked for
    return is_optimizer(value) or all(
        callable(getattr(of_class, name, None)) for name in ("state_dict", "load_state_dict")
    )


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def fingerprint(parts: Mapping[str, Any], without: Iterable[Any], whole: bool) -> dict[str, Any]:
    """Of all that a test must put back in ``parts``, by name: parameters, buffers, gradients,
    modes, attributes and hooks of each module, optimisers with what they hold, and what functions
    work with; and of random states."""
    found = TorchFingerprint(whole, without)
    found.add_random_states()
    found.found["PyTorch's random state"] = torch.get_rng_state().numpy().tobytes()
    for name, thing in parts.items():
        found.add(name, thing)
    return found.values()
