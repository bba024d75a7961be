"""A network in PyTorch, channels-last: one training step written out on one screen."""

import contextlib
import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lrrt import plugins
from lrrt.backends import Step
from lrrt.backends.torch.curvature import Curvature, largest_eigenvalue
from lrrt.backends.torch.forward import (
    batch_statistics,
    forward,
    running_statistics,
    train_batch_norm,
)
from lrrt.backends.torch.layout import array_of, tensor_of, tensors_of
from lrrt.core.dropout import Masks
from lrrt.core.network import Parameter, fold, parameters

NUMBER = Parameter("", "number", ())
EVALUATION_BATCH = {"running": 32, "batch": 512}  # small batches stay in the cache


class TorchNetwork:
    """See :class:`lrrt.backends.Network`."""

    evaluation_batch = EVALUATION_BATCH

    def __init__(self, nodes, protocol, weights, autocast_dtype, device):
        self.nodes, self.protocol, self.device = nodes, protocol, device
        self.masks = Masks(nodes)
        self.autocast_dtype = autocast_dtype
        self.tensors = tensors_of(nodes, weights, device)
        self.described = {p.name: p for p in parameters(nodes) if p.trained}
        named = {name: self.tensors[name].requires_grad_() for name in self.described}
        self.trained = list(named.values())
        self.optimizer = plugins.find(
            "lrrt.backends.torch.optimizers", protocol.optimizer, "protocol.optimizer"
        ).start(named, protocol)
        strengths = (protocol.weight_decay.penalty(p.kind) for p in self.described.values())
        self.penalised = [(i, strength) for i, strength in enumerate(strengths) if strength > 0]

    def step(self, images: np.ndarray, labels: np.ndarray, lr: float) -> Step:
        with self.masks.drawn():
            taken = self._train(images, torch.tensor(labels, device=self.device), lr)
        self.masks.steps += 1
        return Step(*(value.item() for value in taken))

    def _train(self, images, targets: Tensor, lr) -> tuple[Tensor, Tensor, Tensor]:
        """One step; loss, penalty and gradient norm before the update."""
        protocol = self.protocol
        loss = cross_entropy(self._logits(images, train_batch_norm), targets)
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
            self.optimizer.update(gradients, lr)
        return loss, penalty, norm

    @torch.inference_mode()
    def evaluate(
        self, images: np.ndarray, labels: np.ndarray, statistics: str = "running"
    ) -> tuple[float, float]:
        network = self
        with getattr(self.optimizer, "evaluation", contextlib.nullcontext)():
            if statistics == "running":
                network = copy.copy(self)
                folded = fold(self.nodes, self.export(), self.protocol.batch_norm_epsilon)
                network.nodes, network.tensors = folded[0], tensors_of(*folded, self.device)
            targets = torch.tensor(labels, device=self.device)
            return network._evaluate_on(images, targets, statistics)

    def _evaluate_on(
        self, images: np.ndarray | Tensor, labels: Tensor, statistics: str
    ) -> tuple[float, float]:
        """:meth:`evaluate` of this network as it is; ``images`` may be on the device."""
        batch_norm = running_statistics if statistics == "running" else batch_statistics
        sums, size = [], self.evaluation_batch[statistics]
        for start in range(0, len(images), size):
            targets = labels[start : start + size]
            logits = self._logits(images[start : start + size], batch_norm)
            loss = cross_entropy(logits, targets, reduction="sum")
            sums.append(torch.stack([loss, (logits.argmax(-1) == targets).sum()]))
        loss = correct = 0.0
        for of_batch in torch.stack(sums).tolist():  # what waits for a GPU, once
            loss, correct = loss + of_batch[0], correct + of_batch[1]
        return loss / labels.numel(), correct / labels.numel()

    def curvature(
        self, images: np.ndarray, labels: np.ndarray, start: np.ndarray | None = None
    ) -> Curvature:
        """Largest Hessian eigenvalue of what a step on this batch descends, penalty included.

        Batch norm and dropout as in training, but the running statistics, like all else, stay.
        """
        targets = torch.tensor(labels, device=self.device)
        with self.masks.drawn():
            loss = cross_entropy(self._logits(images, batch_statistics), targets)
        for i, strength in self.penalised:
            loss = loss + strength * self.trained[i].square().sum()
        return largest_eigenvalue(loss, self.trained, start)

    def export(self) -> dict[str, np.ndarray]:
        return {p.name: array_of(p, self.tensors[p.name]) for p in parameters(self.nodes)}

    def state(self) -> dict[str, np.ndarray]:
        slots = self.optimizer.state().items()
        arrays = self.export() | {name: array_of(self._like(name), slot) for name, slot in slots}
        return arrays | self.masks.state()

    @torch.no_grad()
    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.masks.restore(state)
        for name, tensor in tensors_of(self.nodes, state, self.device).items():
            self.tensors[name].copy_(tensor)
        if hasattr(self.optimizer, "restore"):
            self.optimizer.restore(state)
            return
        for name, slot in self.optimizer.state().items():
            slot.copy_(tensor_of(self._like(name), state[name], self.device))

    def _like(self, slot: str) -> Parameter:
        """What a tensor of the optimiser's is laid out like."""
        return self.described.get(slot.partition(".")[2], NUMBER)

    def _logits(self, images: np.ndarray, batch_norm) -> Tensor:
        """Float32 logits of NHWC images, or of tokens; ``batch_norm``: a function of forward.py."""
        inputs = torch.as_tensor(images, device=self.device)
        if inputs.ndim == 4:
            # NHWC memory seen as NCHW is PyTorch's channels-last layout: nothing is copied on a CPU
            inputs = inputs.permute(0, 3, 1, 2)
        enabled = self.autocast_dtype is not None
        with torch.autocast(self.device.type, dtype=self.autocast_dtype, enabled=enabled):
            parts = self.nodes, self.tensors, self.protocol
            return forward(*parts, batch_norm, inputs, self.masks).float()


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Of images, logits (batch, classes), or of every token, (batch, tokens, classes)."""
    if logits.ndim > 2:
        logits, targets = logits.flatten(0, -2), targets.flatten()
    return F.cross_entropy(logits, targets, reduction=reduction)
