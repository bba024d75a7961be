"""Peers on PyTorch, each with its usual settings, on a model of ``torch.nn`` layers."""

import tempfile

import torch
import torch.nn.functional as F
from case import Case, Notes
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Model(nn.Module):
    """The case's network; logits of NCHW images."""

    def __init__(self, case: Case):
        super().__init__()
        self.nodes, weights = case.nodes, case.weights()
        self.layers = nn.ModuleDict()
        share, epsilon = 1 - case.protocol.batch_norm_momentum, case.protocol.batch_norm_epsilon
        for node in self.nodes:
            own = {
                name.rsplit(".", 1)[1]: torch.tensor(array)
                for name, array in weights.items()
                if name.rsplit(".", 1)[0] == node.name
            }
            layer = None
            if node.operation == "conv":
                layer = nn.Conv2d(
                    node.in_channels,
                    node.channels,
                    node.kernel,
                    node.stride,
                    padding=(node.kernel - 1) // 2,
                    bias=False,
                )
                layer.weight.data.copy_(own["kernel"].permute(3, 2, 0, 1))
            elif node.operation == "batch_norm":
                layer = nn.BatchNorm2d(node.channels, epsilon, share)
            elif node.operation == "dense":
                layer = nn.Linear(node.in_channels, node.channels)
                layer.weight.data.copy_(own["kernel"].T)
                layer.bias.data.copy_(own["bias"])
            if layer is not None:
                self.layers[node.name.replace(".", "_")] = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = {"input": x}
        for node in self.nodes:
            inputs = [values[name] for name in node.inputs]
            if node.operation == "relu":
                values[node.name] = F.relu(inputs[0])
            elif node.operation == "add":
                values[node.name] = inputs[0] + inputs[1]
            elif node.operation == "global_average_pool":
                values[node.name] = inputs[0].mean((2, 3))
            else:
                values[node.name] = self.layers[node.name.replace(".", "_")](inputs[0])
        return values[self.nodes[-1].name]


class Criterion(nn.Module):
    """Cross entropy that notes each loss, with the learning rate that ``lr()`` says."""

    def __init__(self, notes: Notes, lr):
        super().__init__()
        self.notes, self.lr = notes, lr

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = F.cross_entropy(logits, labels)
        self.notes.note(loss.detach(), self.lr())
        return loss


def _data(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = case.batches()
    return torch.tensor(images).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def _loader(case: Case) -> DataLoader:
    return DataLoader(TensorDataset(*_data(case)), batch_size=case.batch)


def _parts(case: Case, notes: Notes):
    model = Model(case)
    optimiser = torch.optim.SGD(model.parameters(), lr=float(case.lrs[0]), momentum=0.9)
    return model, optimiser, Criterion(notes, lambda: optimiser.param_groups[0]["lr"])


def plain(case: Case, notes: Notes, channels_last: bool = False) -> None:
    """The loop of the tutorials."""
    model, optimiser, criterion = _parts(case, notes)
    images, labels = _data(case)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    batches = zip(images.split(case.batch), labels.split(case.batch), strict=True)
    for lr, (x, y) in zip(case.lrs, batches, strict=True):
        optimiser.param_groups[0]["lr"] = float(lr)
        optimiser.zero_grad()
        criterion(model(x), y).backward()
        optimiser.step()


def plain_tuned(case: Case, notes: Notes) -> None:
    """The same in channels-last memory."""
    plain(case, notes, channels_last=True)


def torch_lr_finder(case: Case, notes: Notes) -> None:
    from torch_lr_finder import LRFinder

    model, optimiser, criterion = _parts(case, notes)
    finder = LRFinder(model, optimiser, criterion, device="cpu")
    finder.range_test(
        _loader(case),
        end_lr=float(case.lrs[-1]),
        num_iter=case.steps,
        smooth_f=0,
        diverge_th=1e9,
    )


def fastai(case: Case, notes: Notes) -> None:
    import fastai.callback.all  # noqa: F401  it gives a Learner lr_find and no_bar
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import SGD

    learner = None
    criterion = Criterion(notes, lambda: learner.opt.hypers[-1]["lr"])
    with tempfile.TemporaryDirectory() as folder:
        loader = _loader(case)
        learner = Learner(
            DataLoaders(loader, loader),
            Model(case),
            loss_func=criterion,
            opt_func=lambda p, lr, **_: SGD(p, lr, mom=0.9),
            wd=0.0,
            path=folder,
            moms=None,
        )
        # Its grid reaches the end one step after the last.
        ratio = float(case.lrs[-1] / case.lrs[0]) ** (case.steps / (case.steps - 1))
        first = float(case.lrs[0])
        with learner.no_bar():
            learner.lr_find(
                first,
                first * ratio,
                case.steps,
                stop_div=False,
                show_plot=False,
                suggest_funcs=None,
            )


def lightning(case: Case, notes: Notes) -> None:
    import logging

    try:
        import torchvision  # noqa: F401  which Lightning imports
    except RuntimeError:  # built for CUDA, beside a CPU build of PyTorch: lacks two operators
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import pytorch_lightning as pl
    from pytorch_lightning.tuner import Tuner

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.model, self.lr = Model(case), float(case.lrs[0])
            lr = lambda: self.optimizers().param_groups[0]["lr"]  # noqa: E731
            self.criterion = Criterion(notes, lr)

        def training_step(self, batch, index):
            x, y = batch
            return self.criterion(self.model(x), y)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)

    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        Tuner(trainer).lr_find(
            Module(),
            train_dataloaders=_loader(case),
            min_lr=float(case.lrs[0]),
            max_lr=float(case.lrs[-1]),
            num_training=case.steps,
            early_stop_threshold=None,
            update_attr=False,
        )
