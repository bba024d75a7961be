"""What a network computes: its operations, and batch norm by three kinds of statistics."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lrrt.core.network import FusedConv, Node, parameters
from lrrt.core.protocol import ProtocolConfig


def forward(nodes, tensors, protocol, batch_norm, images: Tensor) -> Tensor:
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


def train_batch_norm(x: Tensor, own: dict[str, Tensor], protocol: ProtocolConfig) -> Tensor:
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


def batch_statistics(x: Tensor, own: dict[str, Tensor], protocol: ProtocolConfig) -> Tensor:
    """Normalised by the batch; the running statistics stay."""
    epsilon = protocol.batch_norm_epsilon
    return F.batch_norm(x, None, None, own["scale"], own["offset"], True, 0.0, epsilon)


def running_statistics(x: Tensor, own: dict[str, Tensor], protocol: ProtocolConfig) -> Tensor:
    parts = (own[k] for k in ("mean", "variance", "scale", "offset"))
    return F.batch_norm(x, *parts, False, 0.0, protocol.batch_norm_epsilon)
