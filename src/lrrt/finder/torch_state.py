"""Everything of a live PyTorch model, its optimiser and its random states, put back in place."""

import contextlib
import copy
import inspect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lrrt.errors import InputError
from lrrt.finder.random_states import Later, keep_generator, keep_python_random

SIMPLE = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, np.generic)


@contextlib.contextmanager
def random_kept(data: Iterable[Any], keep: Sequence[Any]) -> Iterator[None]:
    """On leaving, all random states are as before: Python's, NumPy's, PyTorch's on every device,
    the generators of ``data`` (DataLoaders), and the things in ``keep``, modules whole."""
    with contextlib.ExitStack() as stack:
        later = stack.callback
        keep_python_random(later)
        keep_torch_random(later)
        for loader in data:
            _keep_loader(loader, later)
        modules = [thing for thing in keep if isinstance(thing, nn.Module)]
        stack.enter_context(model_kept(modules))
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


def _keep_loader(loader: Any, later: Later) -> None:
    sampler = getattr(loader, "sampler", None)
    batch_sampler = getattr(loader, "batch_sampler", None)
    for owner in (loader, sampler, batch_sampler, getattr(batch_sampler, "sampler", None)):
        generator = getattr(owner, "generator", None)
        if not keep_generator(generator, later) and isinstance(generator, torch.Generator):
            _keep_torch_generator(generator, later)
    if isinstance(loader, torch.utils.data.DataLoader):
        # With persistent workers, iterating would rewind the iterator of the user's own loop.
        iterator, loader._iterator = loader._iterator, None
        later(lambda: setattr(loader, "_iterator", iterator))


def _keep_torch_generator(generator: torch.Generator, later: Later) -> None:
    state = generator.get_state()
    later(lambda: generator.set_state(state))


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


@contextlib.contextmanager
def model_kept(modules: Iterable[nn.Module], optimizer: Any = None) -> Iterator[None]:
    """On leaving, ``modules`` and the ``optimizer`` are as before, each tensor in its old place.

    Copies are kept in main memory, so that a model that just fits its device still does.
    """
    tensors = _Copies()
    with contextlib.ExitStack() as stack:
        later = stack.callback
        later(tensors.put_back)
        for module in _unique(m for root in modules for m in root.modules()):
            _keep_module(module, tensors, later)
        if optimizer is not None:
            _keep_optimizer(optimizer, tensors, later)
        for parameter in tensors.parameters():
            # The gradient is set aside, not copied: training makes a new one.
            gradient, parameter.grad = parameter.grad, None
            later(lambda p=parameter, g=gradient: setattr(p, "grad", g))
            later(lambda p=parameter, r=parameter.requires_grad: p.requires_grad_(r))
        yield


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

    @torch.no_grad()
    def put_back(self) -> None:
        for tensor, copied in self.kept.values():
            try:
                tensor.detach().copy_(copied)
            except RuntimeError:  # resized meanwhile, or an expanded view of less memory
                if not torch.equal(tensor.detach().cpu(), copied):
                    tensor.data = copied.to(tensor.device)


def _unique(things: Iterable[Any]) -> list[Any]:
    return list({id(thing): thing for thing in things}.values())


def _keep_module(module: nn.Module, tensors: _Copies, later: Later) -> None:
    """Parameters and buffers (also those that no state dict holds) by name and value; attributes:
    the training mode, counters, tensors and generators kept by hand. Containers are bound again;
    what has been filled into them stays."""
    scripted = isinstance(module, torch.jit.ScriptModule)
    if scripted:
        _keep_scripted(module, tensors, later)
    for members in () if scripted else (module._parameters, module._buffers):
        later(lambda kept=dict(members), members=members: _refill(members, kept))
        for tensor in members.values():
            if tensor is not None:
                tensors.add(tensor)
    attributes = vars(module)
    before, in_place = dict(attributes), {}
    for name, value in before.items():
        if isinstance(value, Tensor):
            tensors.add(value)
        elif isinstance(value, torch.Generator):
            _keep_torch_generator(value, later)
        elif not keep_generator(value, later):
            continue
        in_place[name] = value
    has_extra = type(module).get_extra_state is not nn.Module.get_extra_state
    extra = copy.deepcopy(module.get_extra_state()) if has_extra else None

    def put_back() -> None:
        for name in attributes.keys() - before.keys():
            del attributes[name]
        attributes.update(before)
        if has_extra:
            module.set_extra_state(extra)  # it may bind copies
            attributes.update(in_place)

    later(put_back)


def _keep_scripted(module: torch.jit.ScriptModule, tensors: _Copies, later: Later) -> None:
    """What TorchScript holds, outside Python: tensors, the training mode, counters, lists."""
    kept = {name: getattr(module, name) for name in module._concrete_type.get_attributes()}
    for name, value in kept.items():
        if isinstance(value, Tensor):
            tensors.add(value)
        later(setattr, module, name, value)


def _refill(members: dict, kept: dict) -> None:
    """Give ``members`` the entries of ``kept``, in their order."""
    members.clear()
    members.update(kept)


def _keep_optimizer(
    optimizer: Any, tensors: _Copies, later: Later, seen: dict[int, Any] | None = None
) -> None:
    """Options of each parameter group, the LR first among them; each parameter's slots; tensors
    kept by hand; and all that of an optimiser that it wraps (SAM, Lookahead)."""
    seen = {} if seen is None else seen
    seen[id(optimizer)] = optimizer
    attributes = getattr(optimizer, "__dict__", {})
    plain = {
        name: value
        for name, value in attributes.items()
        if isinstance(value, (*SIMPLE, Tensor)) or name in ("state", "param_groups")
    }

    def put_back() -> None:
        for name in ("_opt_called",):  # a schedule's sign that a step was taken
            if name not in plain:
                attributes.pop(name, None)
        attributes.update(plain)

    later(put_back)
    own_dict = getattr(type(optimizer), "state_dict", torch.optim.Optimizer.state_dict)
    if own_dict is not torch.optim.Optimizer.state_dict:
        # It holds more than an optimiser does: say, slow weights.
        own = copy.deepcopy(optimizer.state_dict())
        later(lambda: optimizer.load_state_dict(own))
    for value in list(attributes.values()):
        if isinstance(value, Tensor):
            tensors.add(value)
        elif _is_optimizer(value) and id(value) not in seen:
            _keep_optimizer(value, tensors, later, seen)
    _keep_mapping(getattr(optimizer, "state", {}), tensors, later)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            tensors.add(parameter)
        _keep_mapping(group, tensors, later)


def _is_optimizer(value: Any) -> bool:
    return not isinstance(value, type) and all(
        hasattr(value, name) for name in ("state", "param_groups")
    )


def _keep_mapping(mapping: Any, tensors: _Copies, later: Later) -> None:
    """On leaving, ``mapping`` has its old entries: tensors in place, mappings likewise, others
    copied."""
    kept = {}
    for name, value in mapping.items():
        if isinstance(value, Tensor):
            tensors.add(value)
        elif isinstance(value, dict):
            _keep_mapping(value, tensors, later)
        elif name != "params":
            value = copy.deepcopy(value)
        kept[name] = value
    later(lambda: _refill(mapping, kept))


def needs_closure(optimizer: Any) -> bool:
    """Whether its step must be given a function that computes the loss (L-BFGS)."""
    parameter = inspect.signature(optimizer.step).parameters.get("closure")
    return parameter is not None and parameter.default is inspect.Parameter.empty
