"""Training that stays on a GPU: images, batch plan, learning rates and losses live there.

The whole step, from drawing the batch to the update, is one CUDA graph. It reads the number of the
step from the device and adds one to it, so a range test is so many replays, without a word from
the host, and one read of all losses at its end.
"""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from lrrt.backends import Step
from lrrt.backends.torch.layout import canonical, laid_out
from lrrt.backends.torch.network import TorchNetwork
from lrrt.core.batches import BatchPlan
from lrrt.core.network import fold, fuse, parameters
from lrrt.core.protocol import Protocol
from lrrt.errors import InputError

WARM_UP_STEPS = 3  # before a capture: libraries set themselves up in the first steps


def build(nodes, protocol, weights, autocast_dtype, precision: str) -> "DeviceNetwork":
    """See :func:`lrrt.backends.torch.build`; deterministic, and TF32 only where it is asked for."""
    if not torch.cuda.is_available():
        raise InputError("launcher.device", "cuda", "cpu; PyTorch sees no GPU here")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False  # its choice depends on the moment
    torch.backends.cudnn.allow_tf32 = precision == "tfloat32"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tfloat32"
    return DeviceNetwork(nodes, protocol, weights, autocast_dtype, torch.device("cuda"))


class DeviceNetwork(TorchNetwork):
    """A network whose learning rate is a tensor of the device, which a graph reads at each replay.

    A number would be frozen at capture.
    """

    evaluation_batch = {"running": 2000, "batch": 512}

    def __init__(self, nodes, protocol, weights, autocast_dtype, device):
        super().__init__(nodes, protocol, weights, autocast_dtype, device)
        if self.masks.nodes:  # drawn on the host at each step
            raise InputError("launcher.device", "cuda", "cpu with a network that has dropout")
        if hasattr(self.optimizer, "restore"):  # a library's, which asks the host at each step
            words = f"cpu with protocol.optimizer = {protocol.optimizer}"
            raise InputError("launcher.device", "cuda", words)

    def resident(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        mean: np.ndarray,
        std: np.ndarray,
        plan: BatchPlan,
        lrs: np.ndarray,
    ) -> "ResidentSteps":
        """See :mod:`lrrt.backends`."""
        data = DeviceBatches(images, labels, mean, std, plan, len(lrs), self.protocol, self.device)
        return ResidentSteps(self, data, lrs)

    def validator(
        self, images: np.ndarray, labels: np.ndarray, statistics: str
    ) -> Callable[[], tuple[float, float]]:
        """See :mod:`lrrt.backends`. With running statistics and cuDNN (but not in bfloat16) a
        convolution, what is added to it and the ReLU are one kernel. (Of that PyTorch asks cuDNN
        for no deterministic algorithm; repeats on an H100 were equal to the bit.)"""
        images = torch.tensor(images, device=self.device)
        labels = torch.tensor(labels, device=self.device)

        @torch.inference_mode()
        def validate() -> tuple[float, float]:
            network = self._fold() if statistics == "running" else self
            return network._evaluate_on(images, labels, statistics)

        return validate

    def _fold(self) -> "DeviceNetwork":
        # On tensors; a CPU folds NumPy's arrays, from whose square root PyTorch's there differs.
        folded = copy.copy(self)
        weights = {p.name: canonical(p, self.tensors[p.name]) for p in parameters(self.nodes)}
        nodes, weights = fold(self.nodes, weights, self.protocol.batch_norm_epsilon)
        fusing = self.autocast_dtype is None and torch.version.hip is None
        folded.nodes = fuse(nodes) if fusing else nodes
        folded.tensors = {p.name: laid_out(p, weights[p.name]) for p in parameters(nodes)}
        return folded

    def _train(self, images, targets, lr):
        lr = torch.as_tensor(lr, dtype=torch.float32, device=self.device)
        return super()._train(images, targets, lr)


class ResidentSteps:
    """``train(first, last)`` of :mod:`lrrt.backends`."""

    def __init__(self, network: DeviceNetwork, data: "DeviceBatches", lrs: np.ndarray):
        self.network, self.data = network, data
        self.lrs = torch.tensor(lrs, dtype=torch.float32, device=network.device)
        self.values = torch.full((len(lrs), 3), torch.nan, device=network.device)
        self.position = torch.zeros(1, dtype=torch.int64, device=network.device)
        self.advance = self._capture() if network.device.type == "cuda" else self._step

    def __call__(self, first: int, last: int) -> Iterator[Step]:
        self.position.fill_(first)
        for _ in range(first, last):
            self.advance()
        yield from (Step(*row) for row in self.values[first:last].tolist())

    def _step(self) -> None:
        images, labels = self.data.batch(self.position)
        lr = self.lrs.index_select(0, self.position)[0]
        taken = torch.stack(self.network._train(images, labels, lr)).detach()
        self.values.index_copy_(0, self.position, taken[None])
        self.position += 1

    def _capture(self):
        """The step as a graph's ``replay``; the network is afterwards as it was before."""
        state = [*self.network.tensors.values(), *self.network.optimizer.state().values()]
        state += [self.position, self.values]
        before = [tensor.detach().clone() for tensor in state]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(min(WARM_UP_STEPS, len(self.lrs))):
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        with torch.no_grad():
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)
        return graph.replay


class DeviceBatches:
    """A batch plan carried out on the device: :func:`lrrt.core.batches.apply`, to the bit.

    ``batch(position)`` gives the images (batch, height, width, channels) float32 and labels
    (batch,) of the step that the tensor ``position`` (1,) counts from 0.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        mean: np.ndarray,
        std: np.ndarray,
        plan: BatchPlan,
        steps: int,
        protocol: Protocol,
        device: torch.device,
    ):
        self.kind, self.normalise = protocol.augmentation, protocol.normalise
        self.tokens = images.ndim == 2
        self.side = images.shape[1]
        self.pixels = torch.tensor(images, device=device)
        if not self.tokens:
            self.pixels = self.pixels.view(-1, images.shape[3])
        self.labels = torch.tensor(labels, dtype=torch.int64, device=device)
        draws = [plan.draws(step) for step in range(steps)]
        shifts = np.stack([d.shifts for d in draws])
        self.tables = [
            torch.tensor(table, device=device)
            for table in (
                np.stack([d.indices for d in draws]),
                np.floor(shifts).astype(np.int64),
                (shifts - np.floor(shifts)).astype(np.float32),
                np.stack([d.flips for d in draws]),
            )
        ]
        scale, offset = 1 / (255 * np.asarray(std)), np.asarray(mean) / np.asarray(std)
        self.scale = torch.tensor(scale.astype(np.float32), device=device)
        self.offset = torch.tensor(offset.astype(np.float32), device=device)

    def batch(self, position: Tensor) -> tuple[Tensor, Tensor]:
        indices, whole, parts, flips = (t.index_select(0, position)[0] for t in self.tables)
        if self.tokens:
            return self.pixels[indices].int(), self.labels[indices]
        if self.kind == "shift":
            images = self._shift(indices, whole, parts, flips)
        else:
            images = self._crop(indices, whole, flips).float()
        if self.normalise:
            images = images * self.scale - self.offset
        else:
            images = images * np.float32(1 / 255).item()
        return images, self.labels[indices]

    def _gather(self, indices: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Pixel (rows[i, y], columns[i, x]) of each image, uint8."""
        positions = ((indices[:, None] * self.side + rows) * self.side)[:, :, None]
        return self.pixels[positions + columns[:, None, :]]

    def _crop(self, indices: Tensor, whole: Tensor, flips: Tensor) -> Tensor:
        positions = torch.arange(self.side, device=indices.device)
        period = max(2 * (self.side - 1), 1)
        rows, columns = (
            torch.minimum(at, period - at)
            for at in ((positions + whole[:, axis, None]) % period for axis in (0, 1))
        )
        columns = torch.where(flips[:, None], columns.flip(1), columns)
        return self._gather(indices, rows, columns)

    def _shift(self, indices: Tensor, whole: Tensor, parts: Tensor, flips: Tensor) -> Tensor:
        positions = torch.arange(self.side + 1, device=indices.device)
        rows, columns = (
            (positions + whole[:, axis, None]).clamp(0, self.side - 1) for axis in (0, 1)
        )
        columns = torch.where(flips[:, None], columns.flip(1), columns)
        down, right = parts[:, 0], torch.where(flips, 1 - parts[:, 1], parts[:, 1])
        window = self._gather(indices, rows, columns).float()
        between = (window[:, 1:] - window[:, :-1]) * down[:, None, None, None] + window[:, :-1]
        return (between[:, :, 1:] - between[:, :, :-1]) * right[:, None, None, None] + between[
            :, :, :-1
        ]
