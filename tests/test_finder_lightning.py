"""The Lightning callback, where Lightning is installed (nothing of the study needs it)."""

import copy

import numpy as np
import pytest

try:
    import pytorch_lightning as lightning
except ImportError:
    lightning = pytest.importorskip("lightning.pytorch", reason="needs Lightning")

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrrt.errors import InputError
from lrrt.finder.lightning import RangeTestCallback

torch.set_num_threads(1)


class Module(lightning.LightningModule):
    def __init__(self, automatic=True):
        super().__init__()
        self.model = nn.Sequential(
            nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 3)
        )
        self.automatic_optimization = automatic
        self.losses = []

    def training_step(self, batch, batch_index):
        x, y = batch
        loss = nn.functional.cross_entropy(self.model(x), y)
        self.log("loss", loss)
        self.losses.append(loss.item())
        return {"loss": loss}

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def fitted(*callbacks, epochs=3, module=None, **options):
    lightning.seed_everything(0, verbose=False)
    module = module or Module()
    x = torch.randn(96, 6)
    data = TensorDataset(x, x[:, :3].argmax(1))
    trainer = lightning.Trainer(
        max_epochs=epochs,
        callbacks=list(callbacks),
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, DataLoader(data, 16, shuffle=True))
    return module, trainer


class WithoutIndex(Module):
    def training_step(self, batch):
        return Module.training_step(self, batch, 0)


def test_a_step_may_take_the_batch_alone():
    curves = []
    for module in (Module(), WithoutIndex()):
        callback = RangeTestCallback(epochs=(0,), steps=20)
        fitted(callback, epochs=1, module=module)
        curves.append(callback.curves[0])
    assert len(curves[0]) == len(curves[1]) > 10


@pytest.mark.parametrize(
    "options",
    [{}, {"gradient_clip_val": 0.5, "accumulate_grad_batches": 2, "precision": "bf16-mixed"}],
)
@pytest.mark.filterwarnings("ignore")
def test_fit_goes_on_as_without_it(options):
    plain, _ = fitted(**options)
    callback = RangeTestCallback(epochs=(0, 2), steps=20)
    tested, trainer = fitted(callback, **options)
    per_epoch = len(plain.losses) // 3
    first = len(callback.curves[0]) * options.get("accumulate_grad_batches", 1)
    assert tested.losses[first : first + per_epoch] == plain.losses[:per_epoch]
    assert all(map(torch.equal, plain.state_dict().values(), tested.state_dict().values()))
    assert set(callback.curves) == {0, 2} and trainer.global_step == per_epoch * 3 // (
        options.get("accumulate_grad_batches", 1)
    )
    assert np.isfinite(callback.curves[2].loss[:10]).all()


@pytest.mark.filterwarnings("ignore")
def test_set_lr_and_what_it_refuses():
    callback = RangeTestCallback(rule="fastai_minimum", set_lr=True)
    _, trainer = fitted(callback, epochs=1)
    assert trainer.optimizers[0].param_groups[0]["lr"] == callback.suggestions[0].lr != 0.01
    with pytest.raises(InputError, match="automatic_optimization"):
        fitted(copy.copy(callback), module=Module(automatic=False), epochs=1)
    with pytest.raises(InputError, match="epochs.*below 1"):
        fitted(RangeTestCallback(epochs=(5,)), epochs=1)
    for options, words in (
        ({"rule": "valley"}, "rule"),
        ({"epochs": 1}, "epochs"),
        ({"stepz": 20}, "stepz.*steps"),
    ):
        with pytest.raises(InputError, match=words):
            RangeTestCallback(**options)
    with pytest.raises(InputError, match="gradient_clip_algorithm"):
        fitted(
            RangeTestCallback(), epochs=1, gradient_clip_val=1.0, gradient_clip_algorithm="value"
        )
