"""The PyTorch backend: channels-last, one training step written out on one screen."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lrrt.backends import Step
from lrrt.backends._torch_curvature import Curvature, largest_eigenvalue
from lrrt.config import ProtocolConfig
from lrrt.core.network import FusedConv, Node, Parameter, fold, parameters
from lrrt.errors import InputError

EVALUATION_BATCH = {"running": 32, "batch": 512}  # small batches stay in the cache
# Of autocast; None: off. (tfloat32: on a GPU, convolutions and products in TF32.)
DTYPES = {"float32": None, "tfloat32": None, "bfloat16": torch.bfloat16}


def build(
    nodes: list[Node],
    protocol: ProtocolConfig,
    weights: dict[str, np.ndarray],
    *,
    precision: str = "float32",
    threads: int = 1,
    device: str = "cpu",
) -> "TorchNetwork":
    """A network with ``weights`` (canonical names and layouts), ready to train by ``protocol``.

    On a GPU it also trains whole range tests there: :mod:`lrrt.backends._torch_cuda`.

    Raises
    ------
    InputError
        For a GPU that PyTorch does not see, and for TF32 without one.
    """
    torch.set_num_threads(threads)
    if device == "cuda":
        from lrrt.backends import _torch_cuda  # which builds upon this module

        return _torch_cuda.build(nodes, protocol, weights, DTYPES[precision], precision)
    if precision == "tfloat32":
        raise InputError("precision", precision, "float32 or bfloat16 on a CPU")
    return TorchNetwork(nodes, protocol, weights, DTYPES[precision], torch.device(device))


def versions() -> dict[str, str]:
    return {"torch": torch.__version__}


class TorchNetwork:
    """See :class:`lrrt.backends.Network`."""

    evaluation_batch = EVALUATION_BATCH

    def __init__(self, nodes, protocol, weights, autocast_dtype, device):
        self.nodes, self.protocol, self.device = nodes, protocol, device
        self.autocast_dtype = autocast_dtype
        self.tensors = _tensors(nodes, weights, device)
        self.described = [p for p in parameters(nodes) if p.trained]
        self.trained = [self.tensors[p.name].requires_grad_() for p in self.described]
        self.velocity = [torch.zeros_like(tensor) for tensor in self.trained]
        decay = protocol.weight_decay
        factors = {"conv": decay.conv_factor, "dense": decay.dense_factor}
        strengths = [decay.value * factors.get(p.kind, decay.other_factor) for p in self.described]
        self.penalised = [
            (i, strength)
            for i, strength in enumerate(strengths)
            if decay.kind == "l2" and strength > 0
        ]

    def step(self, images: np.ndarray, labels: np.ndarray, lr: float) -> Step:
        taken = self._train(images, torch.tensor(labels, device=self.device), lr)
        return Step(*(value.item() for value in taken))

    def _train(self, images, targets: Tensor, lr) -> tuple[Tensor, Tensor, Tensor]:
        """One step; loss, penalty and gradient norm before the update."""
        protocol = self.protocol
        loss = F.cross_entropy(self._logits(images, _train_batch_norm), targets)
        gradients = list(torch.autograd.grad(loss, self.trained))
        with torch.no_grad():
            penalty = torch.zeros((), device=self.device)
            for i, strength in self.penalised:
                penalty += strength * self.trained[i].square().sum()
                gradients[i].add_(self.trained[i], alpha=2 * strength)
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            if protocol.gradient_clip is not None:
                # norm - norm: a norm that is not finite makes all gradients NaN, as in TensorFlow.
                scale = protocol.gradient_clip / norm.clamp(min=protocol.gradient_clip)
                torch._foreach_mul_(gradients, scale + (norm - norm))
            self._update(gradients, lr)
        return loss, penalty, norm

    def _update(self, gradients: list[Tensor], lr: float) -> None:
        protocol = self.protocol
        if protocol.weight_decay.kind == "decoupled":
            torch._foreach_mul_(self.trained, 1 - lr * protocol.weight_decay.value)
        torch._foreach_mul_(self.velocity, protocol.momentum)
        if protocol.momentum_form == "lr_inside":
            torch._foreach_add_(self.velocity, gradients, alpha=-lr)
            torch._foreach_add_(self.trained, self.velocity)
        else:
            torch._foreach_add_(self.velocity, gradients)
            torch._foreach_add_(self.trained, self.velocity, alpha=-lr)

    @torch.inference_mode()
    def evaluate(
        self, images: np.ndarray, labels: np.ndarray, statistics: str = "running"
    ) -> tuple[float, float]:
        network = self
        if statistics == "running":
            network = copy.copy(self)
            folded = fold(self.nodes, self.export(), self.protocol.batch_norm_epsilon)
            network.nodes, network.tensors = folded[0], _tensors(*folded, self.device)
        return network._evaluate_on(images, torch.tensor(labels, device=self.device), statistics)

    def _evaluate_on(
        self, images: np.ndarray | Tensor, labels: Tensor, statistics: str
    ) -> tuple[float, float]:
        """:meth:`evaluate` of this network as it is; ``images`` may be on the device."""
        batch_norm = _running_statistics if statistics == "running" else _batch_statistics
        sums, size = [], self.evaluation_batch[statistics]
        for start in range(0, len(images), size):
            targets = labels[start : start + size]
            logits = self._logits(images[start : start + size], batch_norm)
            loss = F.cross_entropy(logits, targets, reduction="sum")
            sums.append(torch.stack([loss, (logits.argmax(1) == targets).sum()]))
        loss = correct = 0.0
        for of_batch in torch.stack(sums).tolist():  # what waits for a GPU, once
            loss, correct = loss + of_batch[0], correct + of_batch[1]
        return loss / len(images), correct / len(images)

    def curvature(
        self, images: np.ndarray, labels: np.ndarray, start: np.ndarray | None = None
    ) -> Curvature:
        """Largest Hessian eigenvalue of what a step on this batch descends, penalty included.

        Batch norm as in training, but its running statistics, like all else here, stay.
        """
        targets = torch.tensor(labels, device=self.device)
        loss = F.cross_entropy(self._logits(images, _batch_statistics), targets)
        for i, strength in self.penalised:
            loss = loss + strength * self.trained[i].square().sum()
        return largest_eigenvalue(loss, self.trained, start)

    def export(self) -> dict[str, np.ndarray]:
        return {p.name: _array(p, self.tensors[p.name]) for p in parameters(self.nodes)}

    def state(self) -> dict[str, np.ndarray]:
        velocity = zip(self.described, self.velocity, strict=True)
        return self.export() | {f"velocity.{p.name}": _array(p, v) for p, v in velocity}

    @torch.no_grad()
    def restore(self, state: dict[str, np.ndarray]) -> None:
        for name, tensor in _tensors(self.nodes, state, self.device).items():
            self.tensors[name].copy_(tensor)
        for p, velocity in zip(self.described, self.velocity, strict=True):
            velocity.copy_(_tensor(p, state[f"velocity.{p.name}"], self.device))

    def _logits(self, images: np.ndarray, batch_norm) -> Tensor:
        """Float32 logits of NHWC images; ``batch_norm`` is one of the functions below."""
        # NHWC memory seen as NCHW is PyTorch's channels-last layout: nothing is copied on a CPU.
        inputs = torch.as_tensor(images, device=self.device).permute(0, 3, 1, 2)
        enabled = self.autocast_dtype is not None
        with torch.autocast(self.device.type, dtype=self.autocast_dtype, enabled=enabled):
            return _forward(self.nodes, self.tensors, self.protocol, batch_norm, inputs).float()


def _tensors(nodes, weights, device) -> dict[str, Tensor]:
    return {p.name: _tensor(p, weights[p.name], device) for p in parameters(nodes)}


def _tensor(parameter: Parameter, array: np.ndarray, device: torch.device) -> Tensor:
    """A copy in PyTorch's layout: kernels (out, in, height, width) and (out, in)."""
    return laid_out(parameter, torch.tensor(array, dtype=torch.float32, device=device))


def laid_out(parameter: Parameter, tensor: Tensor) -> Tensor:
    """From the canonical layout to PyTorch's."""
    if parameter.kind == "conv":
        return tensor.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    return tensor.t().contiguous() if parameter.kind == "dense" else tensor


def _array(parameter: Parameter, tensor: Tensor) -> np.ndarray:
    """A copy in the canonical layout."""
    return canonical(parameter, tensor).cpu().numpy().copy(order="C")


def canonical(parameter: Parameter, tensor: Tensor) -> Tensor:
    """The way back from :func:`laid_out`, as a view."""
    axes = {"conv": (2, 3, 1, 0), "dense": (1, 0)}.get(parameter.kind, (0,))
    return tensor.detach().permute(axes)


def _forward(nodes, tensors, protocol, batch_norm, images: Tensor) -> Tensor:
    """Logits of images (NCHW). Values that nothing reads any more are let go, or overwritten."""
    last_use = {name: node.name for node in nodes for name in node.inputs}
    # Their outputs are not needed for their gradients.
    rewritable = {n.name for n in nodes if n.operation in ("conv", "batch_norm", "add")}
    values = {"input": images}
    for node in nodes:
        inputs = [values[name] for name in node.inputs]
        for name in node.inputs:
            if last_use[name] == node.name:
                values.pop(name, None)
        first = node.inputs[0]
        in_place = first in rewritable and first not in values and node.inputs.count(first) == 1
        own = {p.name.rsplit(".", 1)[1]: tensors[p.name] for p in parameters([node])}
        if node.operation == "conv":
            values[node.name] = _conv(node, protocol.padding, inputs, own)
        elif node.operation == "batch_norm":
            values[node.name] = batch_norm(inputs[0], own, protocol)
        elif node.operation == "relu":
            values[node.name] = F.relu(inputs[0], inplace=in_place)
        elif node.operation == "add":
            x, y = inputs
            values[node.name] = x.add_(y) if in_place else x + y
        elif node.operation == "global_average_pool":
            values[node.name] = inputs[0].mean((2, 3))
        else:
            values[node.name] = F.linear(inputs[0], own["kernel"], own["bias"])
    return values[nodes[-1].name]


def _conv(node: Node, rule: str, inputs: list[Tensor], own: dict[str, Tensor]) -> Tensor:
    x, added = (*inputs, None)[:2]
    padding = (node.kernel - 1) // 2
    if rule == "same" and node.stride > 1:
        # TensorFlow's: just what the last window lacks, the odd pixel below and to the right.
        sides = []
        for side in (x.shape[3], x.shape[2]):
            windows = -(-side // node.stride)
            lacking = max((windows - 1) * node.stride + node.kernel - side, 0)
            sides += [lacking // 2, lacking - lacking // 2]
        if any(sides):
            x = F.pad(x, sides)
        padding = 0
    kernel, bias = own["kernel"], own.get("bias")
    fused = isinstance(node, FusedConv)
    if fused and x.is_cuda:
        numbers = ((node.stride,) * 2, (padding,) * 2, (1, 1), 1)
        if added is None:
            return torch.cudnn_convolution_relu(x, kernel, bias, *numbers)
        return torch.cudnn_convolution_add_relu(x, kernel, added, 1.0, bias, *numbers)
    y = F.conv2d(x, kernel, bias, stride=node.stride, padding=padding)
    if not fused:
        return y
    return F.relu(y if added is None else y + added)


def _train_batch_norm(x: Tensor, own: dict[str, Tensor], protocol: ProtocolConfig) -> Tensor:
    """Normalised by the batch; the running statistics move."""
    mean, variance, scale, offset = (own[k] for k in ("mean", "variance", "scale", "offset"))
    share, epsilon = 1 - protocol.batch_norm_momentum, protocol.batch_norm_epsilon
    if protocol.batch_norm_unbiased:
        return F.batch_norm(x, mean, variance, scale, offset, True, share, epsilon)
    # PyTorch adds the unbiased variance, times the share: catch that and add the biased one.
    added = torch.zeros_like(variance)
    y = F.batch_norm(x, mean, added, scale, offset, True, share, epsilon)
    count = x.numel() / x.shape[1]
    variance.mul_(1 - share).add_(added, alpha=(count - 1) / count)
    return y


def _batch_statistics(x: Tensor, own: dict[str, Tensor], protocol: ProtocolConfig) -> Tensor:
    """Normalised by the batch; the running statistics stay."""
    epsilon = protocol.batch_norm_epsilon
    return F.batch_norm(x, None, None, own["scale"], own["offset"], True, 0.0, epsilon)


def _running_statistics(x: Tensor, own: dict[str, Tensor], protocol: ProtocolConfig) -> Tensor:
    parts = (own[k] for k in ("mean", "variance", "scale", "offset"))
    return F.batch_norm(x, *parts, False, 0.0, protocol.batch_norm_epsilon)
