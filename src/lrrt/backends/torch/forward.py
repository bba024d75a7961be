"""What a network computes: its operations, and batch norm by three kinds of statistics."""

from collections import Counter

import torch
import torch.nn.functional as F
from torch import Tensor

from lrrt.backends.torch.torchvision import forward_module
from lrrt.core.dropout import Masks
from lrrt.core.network import LAYER_NORM_EPSILON, FusedConv, Node, parameters
from lrrt.core.protocol import Protocol


def forward(nodes, tensors, protocol, batch_norm, given: Tensor, masks: Masks) -> Tensor:
    """Logits of images (NCHW) or tokens. Values that nothing reads any more are let go, or
    overwritten."""
    last_use = {name: node.name for node in nodes for name in node.inputs}
    readers = Counter(name for node in nodes for name in node.inputs)
    # Their outputs are not needed for their gradients, nor for those of a second reader.
    rewritable = {
        node.name
        for node in nodes
        if node.operation in ("conv", "batch_norm", "add") and readers[node.name] == 1
    }
    values = {"input": given}
    for node in nodes:
        inputs = [values[name] for name in node.inputs]
        for name in node.inputs:
            if last_use[name] == node.name:
                values.pop(name, None)
        in_place = node.inputs[0] in rewritable
        own = {p.name.rsplit(".", 1)[-1]: tensors[p.name] for p in parameters([node])}
        if node.operation == "module":
            value = forward_module(node, tensors, protocol, MODES[batch_norm], *inputs)
        elif node.operation == "conv":
            value = _conv(node, protocol.padding, inputs, own)
        elif node.operation == "batch_norm":
            value = batch_norm(inputs[0], own, protocol)
        elif node.operation == "relu":
            value = F.relu(inputs[0], inplace=in_place)
        elif node.operation == "add":
            x, y = inputs
            value = x.add_(y) if in_place else x + y
        elif node.operation == "attention":
            value = _attention(*inputs, node.heads)
        elif node.operation == "dropout":
            value = _dropout(node, inputs[0], masks)
        else:
            value = SIMPLE[node.operation](node, inputs[0], **own)
        values[node.name] = value
    return value


def _flatten(node: Node, x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(1)  # in the order of NHWC


def _layer_norm(node: Node, x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    return F.layer_norm(x, (node.channels,), scale, offset, LAYER_NORM_EPSILON)


SIMPLE = {
    "global_average_pool": lambda node, x: x.mean((2, 3)),
    "max_pool": lambda node, x: F.max_pool2d(x, node.kernel, node.stride),
    "flatten": _flatten,
    "gelu": lambda node, x: F.gelu(x),
    "layer_norm": _layer_norm,
    "dense": lambda node, x, kernel, bias: F.linear(x, kernel, bias),
    "embedding": lambda node, x, table: F.embedding(x, table),
    "position": lambda node, x, table: x + table[: x.shape[1]],
}


def _attention(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Written out: PyTorch's own has no second derivative."""
    batch, tokens, channels = queries.shape
    shape = (batch, tokens, heads, channels // heads)
    q, k, v = (x.reshape(shape).transpose(1, 2) for x in (queries, keys, values))
    scores = q @ k.transpose(2, 3) / shape[3] ** 0.5
    later = torch.ones(tokens, tokens, dtype=torch.bool, device=q.device).triu(1)
    scores = scores.masked_fill(later, -torch.inf)
    return (scores.softmax(3) @ v).transpose(1, 2).reshape(queries.shape)


def _dropout(node: Node, x: Tensor, masks: Masks) -> Tensor:
    if not masks.on:
        return x
    if x.ndim == 4:
        mask = masks.mask(node.name, x.permute(0, 2, 3, 1).shape).transpose(0, 3, 1, 2)
    else:
        mask = masks.mask(node.name, x.shape)
    return x * torch.from_numpy(mask).to(x)


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


def train_batch_norm(x: Tensor, own: dict[str, Tensor], protocol: Protocol) -> Tensor:
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


def batch_statistics(x: Tensor, own: dict[str, Tensor], protocol: Protocol) -> Tensor:
    """Normalised by the batch; the running statistics stay."""
    epsilon = protocol.batch_norm_epsilon
    return F.batch_norm(x, None, None, own["scale"], own["offset"], True, 0.0, epsilon)


def running_statistics(x: Tensor, own: dict[str, Tensor], protocol: Protocol) -> Tensor:
    parts = (own[k] for k in ("mean", "variance", "scale", "offset"))
    return F.batch_norm(x, *parts, False, 0.0, protocol.batch_norm_epsilon)


MODES = {train_batch_norm: "train", batch_statistics: "batch", running_statistics: "running"}
