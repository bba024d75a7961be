"""The Lightning callback, where Lightning is installed (nothing of the study needs it)."""

import copy
import subprocess
import sys

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


def fitted(*callbacks, epochs=3, module=None, shuffle=True, **options):
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
    trainer.fit(module, DataLoader(data, 16, shuffle=shuffle))
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
    assert tested.losses == plain.losses  # lists of a module are put back, too
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
    with pytest.raises(InputError, match="accumulate: expected left out"):
        RangeTestCallback(accumulate=2)


# ---- the curve is that of the trainer's own steps ------------------------------------------------


class Ramp(lightning.Callback):
    """The ramp by hand, in a training of the trainer itself; each step's loss."""

    def __init__(self, rates, accumulate=1):
        super().__init__()
        self.rates, self.accumulate, self.losses = rates, accumulate, []

    def on_train_batch_start(self, trainer, module, batch, index):
        step = trainer.global_step
        if step >= len(self.rates):
            trainer.should_stop = True
        else:
            for group in trainer.optimizers[0].param_groups:
                group["lr"] = self.rates[step]

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if outputs:
            self.losses.append(outputs["loss"].item() * self.accumulate)

    def of_steps(self, count):
        losses = np.array(self.losses[: count * self.accumulate])
        return losses.reshape(-1, self.accumulate).mean(1)


class Transferred(Module):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch[0] * 10 + 5, batch[1]


class Clipped(Module):
    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, **_):
        for parameter in self.parameters():
            parameter.grad.sign_()


class Stepped(Module):
    def on_before_optimizer_step(self, optimizer):
        for parameter in self.parameters():
            parameter.grad.mul_(3)

    def optimizer_step(self, epoch, index, optimizer, closure):
        super().optimizer_step(epoch, index, optimizer, closure)
        with torch.no_grad():
            self.model[0].weight.clamp_(-0.3, 0.3)


class Backward(Module):
    def backward(self, loss):
        (2 * loss).backward()


class Skipping(Module):
    def training_step(self, batch, index):
        loss = super().training_step(batch, index)
        return None if batch[1][0] == 0 else loss


@pytest.mark.parametrize("kind", [Transferred, Clipped, Stepped, Backward, Skipping, Module])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_clip_val": 0.1, "gradient_clip_algorithm": "value"},
        {"precision": "64-true"},
        {"accumulate_grad_batches": 2},
    ],
    ids=["plain", "clipped", "double", "accumulated"],
)
@pytest.mark.filterwarnings("ignore")
def test_the_curve_is_that_of_the_trainers_own_steps(kind, options):
    if kind is Skipping and options:
        pytest.skip("one case of it")
    if kind is Clipped and "gradient_clip_val" in options:
        pytest.skip("it clips for itself")
    callback = RangeTestCallback(steps=20, start=1e-3, end=1.0, stop=None)
    fitted(callback, epochs=1, module=seeded(kind), shuffle=False, **options)
    curve, accumulate = callback.curves[0], options.get("accumulate_grad_batches", 1)
    assert len(curve) == 20
    ramp = Ramp(curve.lr.tolist(), accumulate)
    fitted(ramp, epochs=20, module=seeded(kind), shuffle=False, **options)
    if kind is Skipping:  # the trainer's own step of a batch without a loss is at a rate, too
        assert curve.loss[0] == ramp.losses[0] and np.isfinite(curve.loss).all()
    else:
        assert curve.loss == pytest.approx(ramp.of_steps(20), rel=1e-12)


def seeded(kind):
    """One of these, without dropout."""
    lightning.seed_everything(1, verbose=False)
    module = kind()
    module.model[3] = nn.Identity()
    return module


class Data(lightning.LightningDataModule):
    def train_dataloader(self):
        x = torch.randn(96, 6, generator=torch.Generator().manual_seed(1))
        return DataLoader(TensorDataset(x, x[:, :3].argmax(1)), 16)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch[0] * 10 + 5, batch[1]


def quiet_trainer(*callbacks, **options):
    return lightning.Trainer(
        callbacks=list(callbacks),
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **({"max_epochs": 1} | options),
    )


@pytest.mark.filterwarnings("ignore")
def test_hooks_of_a_data_module():
    callback, ramp = RangeTestCallback(steps=10, stop=None), Ramp([0.01])
    quiet_trainer(callback).fit(seeded(Module), datamodule=Data())
    quiet_trainer(ramp).fit(seeded(Module), datamodule=Data())
    assert callback.curves[0].loss[0] == ramp.losses[0]


class Named(Module):
    """Of a dictionary of loaders; its rate stands in hparams."""

    def __init__(self, lr=0.01):
        super().__init__()
        self.save_hyperparameters()

    def training_step(self, batch, index):
        return super().training_step(batch["a"], index)["loss"] + batch["b"][0].mean() * 0

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)


@pytest.mark.filterwarnings("ignore")
def test_several_loaders_and_the_rate_in_hparams():
    callback, module = RangeTestCallback(rule="fastai_minimum", set_lr=True, start=1e-4), Named()
    loaders = {"a": Data().train_dataloader(), "b": DataLoader(torch.randn(96, 2), 16)}
    trainer = quiet_trainer(callback)
    trainer.fit(module, loaders)
    lr = callback.suggestions[0].lr
    assert trainer.optimizers[0].param_groups[0]["lr"] == lr == module.hparams.lr != 0.01


@pytest.mark.filterwarnings("ignore")
def test_accumulation_of_the_epoch_that_a_later_callback_sets():
    scheduler = lightning.callbacks.GradientAccumulationScheduler({0: 1, 1: 3})
    callback = RangeTestCallback(epochs=(0, 1), steps=10)
    fitted(callback, scheduler, epochs=2)
    assert [callback.curves[epoch].about["accumulate"] for epoch in (0, 1)] == [1, 3]


class Averages(lightning.Callback):
    """Counts, and an average of the weights, on the way of a step."""

    def __init__(self):
        super().__init__()
        self.steps, self.seen = 0, []

    def setup(self, trainer, module, stage):
        self.average = copy.deepcopy(module.model)

    def on_before_zero_grad(self, trainer, module, optimizer):
        self.steps += 1
        self.seen.append(trainer.global_step)
        for mean, value in zip(self.average.parameters(), module.model.parameters(), strict=True):
            mean.data.lerp_(value.data, 0.1)


@pytest.mark.filterwarnings("ignore")
def test_what_callbacks_keep_of_steps_is_put_back():
    kept = []
    for callbacks in ([], [RangeTestCallback(epochs=(1,), steps=20)]):
        averages = Averages()
        fitted(averages, *callbacks, epochs=2)
        kept.append((averages.steps, averages.seen, *averages.average.state_dict().values()))
    assert kept[0][:2] == kept[1][:2]
    assert all(map(torch.equal, kept[0][2:], kept[1][2:]))


@pytest.mark.filterwarnings("ignore")
def test_a_rate_that_a_hook_sets_is_refused():
    class Warming(Module):
        def optimizer_step(self, epoch, index, optimizer, closure):
            for group in optimizer.param_groups:
                group["lr"] = 0.01
            super().optimizer_step(epoch, index, optimizer, closure)

    with pytest.raises(InputError, match="optimizer: .*optimizer_step, a hook or a schedule"):
        fitted(RangeTestCallback(), epochs=1, module=Warming())


# ---- two processes ------------------------------------------------------------------------------


def train_on_two(folder):
    callback = RangeTestCallback(rule="fastai_minimum", set_lr=True, steps=30, stop=2.0)
    module = seeded(Module)
    trainer = quiet_trainer(callback, devices=2, strategy="ddp")
    x = torch.randn(96, 6, generator=torch.Generator().manual_seed(1))
    trainer.fit(module, DataLoader(TensorDataset(x, x[:, :3].argmax(1)), 8))
    torch.save(
        [callback.curves[0].loss, callback.suggestions[0].lr, *module.parameters()],
        f"{folder}/{trainer.global_rank}.pt",
    )


def test_two_processes_decide_alike(tmp_path):
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1))
    assert np.array_equal(first[0], second[0]) and first[1] == second[1] is not None
    assert all(map(torch.equal, first[2:], second[2:]))


if __name__ == "__main__":
    train_on_two(sys.argv[1])
