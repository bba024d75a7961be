"""Many small networks of one kind trained at once: each array of theirs a slice of one tensor.

A small network's step is mostly the overhead of its operations; a batched product does that of all
at once. The slices do not mix, and a slice's bits do not depend on the others (tests compare stacks
of other sizes). Gradients are written out, which for dense layers is shorter than what autograd
does.
"""

import numpy as np
import torch
from torch import Tensor

from lrrt import plugins
from lrrt.core.network import Node, parameters
from lrrt.core.protocol import Protocol

EVALUATION_BATCH = 512


def stackable(nodes: list[Node]) -> bool:
    """Whether the network is a chain of dense layers, each but the last with a ReLU after it."""
    operations = [node.operation for node in nodes]
    chain = all(a.name == b.inputs[0] for a, b in zip(nodes, nodes[1:], strict=False))
    return chain and operations == ["flatten", *["dense", "relu"] * (len(nodes) // 2 - 1), "dense"]


class TorchStack:
    """``weights``: of each network, by canonical name. Arrays are (networks, out, in) for kernels
    and (networks, 1, out) for biases."""

    def __init__(self, nodes: list[Node], protocol: Protocol, weights: list[dict[str, np.ndarray]]):
        self.protocol = protocol
        described = parameters(nodes)  # kernel, bias, kernel, bias, ...
        arrays = {}
        for p in described:
            stacked = torch.from_numpy(np.stack([w[p.name] for w in weights]))
            kernel = p.kind == "dense"
            arrays[p.name] = stacked.transpose(1, 2).contiguous() if kernel else stacked[:, None]
        self.arrays = list(arrays.values())
        self.layers = list(zip(self.arrays[::2], self.arrays[1::2], strict=True))
        package = "lrrt.backends.torch.optimizers"
        found = plugins.find(package, protocol.optimizer, "protocol.optimizer")
        self.optimizer = found.start(arrays, protocol)
        self.strengths = [protocol.weight_decay.penalty(p.kind) for p in described]

    @torch.inference_mode()
    def step(
        self, images: np.ndarray, labels: np.ndarray, which: np.ndarray, lrs: np.ndarray
    ) -> np.ndarray:
        """Train one step of each; its mean loss before it, (networks,).

        Parameters
        ----------
        images, labels : (batches, batch, height, width, channels), (batches, batch)
        which : (networks,), the batch of each
        lrs : (networks,)
        """
        of = torch.from_numpy(which)
        inputs = [torch.from_numpy(images).flatten(2)[of]]  # of each layer
        labels = torch.from_numpy(labels)[of]
        for kernel, bias in self.layers[:-1]:
            inputs.append(torch.baddbmm(bias, inputs[-1], kernel.transpose(1, 2)).relu_())
        kernel, bias = self.layers[-1]
        logs = torch.baddbmm(bias, inputs[-1], kernel.transpose(1, 2)).log_softmax(2)
        losses = -logs.gather(2, labels[:, :, None]).mean((1, 2))
        slope = logs.exp_()  # of the loss by the logits
        slope.scatter_add_(2, labels[:, :, None], -torch.ones_like(slope[:, :, :1]))
        slope /= labels.shape[1]
        gradients: list[Tensor] = []
        for i in range(len(self.layers) - 1, -1, -1):
            of_kernel = torch.bmm(slope.transpose(1, 2), inputs[i])
            gradients[:0] = [of_kernel, slope.sum(1, keepdim=True)]
            if i:
                slope = torch.bmm(slope, self.layers[i][0])
                # ReLU's backward pass in one go: slope * (inputs[i] > 0) takes three.
                slope = torch.ops.aten.threshold_backward(slope, inputs[i], 0)
        self._update(gradients, torch.from_numpy(lrs).float()[:, None, None])
        return losses.numpy()

    def _update(self, gradients: list[Tensor], lrs: Tensor) -> None:
        for gradient, array, strength in zip(gradients, self.arrays, self.strengths, strict=True):
            if strength:
                gradient.add_(array, alpha=2 * strength)
        clip = self.protocol.gradient_clip
        if clip is not None:
            norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
            scale = (clip / norms.clamp(min=clip) + (norms - norms))[:, None, None]
            for gradient in gradients:
                gradient.mul_(scale)
        self.optimizer.update(gradients, lrs)

    @torch.inference_mode()
    def evaluate(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Mean loss and accuracy of each over the same images: (networks, 2), float64."""
        images, labels = torch.from_numpy(images).flatten(1), torch.tensor(labels)
        sums = torch.zeros(len(self.arrays[0]), 2, dtype=torch.float64)
        for start in range(0, len(images), EVALUATION_BATCH):
            values = images[start : start + EVALUATION_BATCH]
            targets = labels[start : start + EVALUATION_BATCH]
            for i, (kernel, bias) in enumerate(self.layers):
                values = torch.matmul(values.relu() if i else values, kernel.transpose(1, 2)) + bias
            logs = values.log_softmax(2)
            chosen = targets[None, :, None].expand(len(logs), -1, 1)
            sums[:, 0] -= logs.gather(2, chosen).double().sum((1, 2))
            sums[:, 1] += (values.argmax(2) == targets).sum(1)
        return (sums / len(images)).numpy()
