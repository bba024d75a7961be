"""The callback for Hugging Face's Trainer, where transformers is installed."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from lrrt.errors import InputError  # noqa: E402
from lrrt.finder.transformers import RangeTestCallback  # noqa: E402

torch.set_num_threads(1)


def made(tmp_path, callbacks=(), kind=transformers.Trainer, **options):
    transformers.set_seed(0)
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
        num_labels=3,
    )
    model = transformers.BertForSequenceClassification(config)
    random = np.random.default_rng(0)
    data = []
    for _ in range(48):
        ids = random.integers(0, 40, 8)
        data.append({"input_ids": ids.tolist(), "labels": int(ids[0] % 3)})
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        per_device_train_batch_size=8,
        **({"num_train_epochs": 2, "learning_rate": 1e-3} | options),
    )
    return kind(model=model, args=arguments, train_dataset=data, callbacks=list(callbacks))


class Doubled(transformers.Trainer):
    """A loss of one's own."""

    def compute_loss(self, model, inputs, **options):
        return 2 * super().compute_loss(model, inputs, **options)


class Ramp(transformers.TrainerCallback):
    """The ramp by hand, in a training of the trainer itself; the losses of its steps."""

    def __init__(self, trainer, rates):
        self.rates, self.losses, taken = rates, [], trainer.training_step
        count = trainer.args.gradient_accumulation_steps

        def training_step(model, inputs, *args, **kwargs):
            step = len(self.losses) // count
            for group in trainer.optimizer.param_groups:
                group["lr"] = rates[min(step, len(rates) - 1)]
            loss = taken(model, inputs, *args, **kwargs)
            self.losses.append(loss.item())
            return loss

        trainer.training_step = training_step

    def by_step(self, count):
        return np.array(self.losses).reshape(-1, count).sum(1)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (transformers.Trainer, {}),
        (Doubled, {"gradient_accumulation_steps": 2, "max_grad_norm": 0.1}),
        (transformers.Trainer, {"label_smoothing_factor": 0.1, "bf16": True}),
    ],
)
def test_training_goes_on_as_without_it_and_the_curve_is_the_trainers(tmp_path, kind, options):
    plain = made(tmp_path, kind=kind, **options)
    plain.train()
    tested = made(tmp_path, kind=kind, **options)
    callback = RangeTestCallback(tested, epochs=(0, 1), steps=20, start=1e-4, end=1.0, stop=None)
    tested.add_callback(callback)
    tested.train()
    states = plain.model.state_dict(), tested.model.state_dict()
    assert all(map(torch.equal, states[0].values(), states[1].values()))
    assert plain.state.global_step == tested.state.global_step
    curve = callback.curves[0]
    assert set(callback.curves) == {0, 1} and len(curve) == 20
    ramped = made(tmp_path, kind=kind, **options | {"num_train_epochs": 20})
    ramp = Ramp(ramped, curve.lr.tolist())
    ramped.add_callback(ramp)
    ramped.train()
    count = options.get("gradient_accumulation_steps", 1)
    first = 6 // count  # of the first epoch; the next has another order
    assert curve.loss[:first] == pytest.approx(ramp.by_step(count)[:first], rel=1e-7)


def test_the_rate_becomes_the_peak_of_the_schedule(tmp_path):
    trainer = made(tmp_path, num_train_epochs=1)
    callback = RangeTestCallback(trainer, rule="fastai_minimum", set_lr=True, start=1e-5)
    trainer.add_callback(callback)
    seen = []

    class Reading(transformers.TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            seen.append(kwargs["optimizer"].param_groups[0]["lr"])

    trainer.add_callback(Reading())
    trainer.train()
    lr = callback.suggestions[0].lr
    assert not callback.suggestions[0].cautions
    assert seen == pytest.approx([lr * (6 - step) / 6 for step in range(6)])


def test_what_it_refuses(tmp_path):
    trainer = made(tmp_path, num_train_epochs=1)
    with pytest.raises(InputError, match="trainer: expected the Trainer"):
        RangeTestCallback("trainer")
    with pytest.raises(InputError, match="clip_norm: expected left out"):
        RangeTestCallback(trainer, clip_norm=1.0)
    trainer.add_callback(RangeTestCallback(trainer, epochs=(3,)))
    with pytest.raises(InputError, match="epochs: expected below 1"):
        trainer.train()


# ---- two processes ------------------------------------------------------------------------------


def train_on_two(folder):
    """This rank's curve, and the weights of the training with the test and without."""
    found = []
    for tested in (False, True):
        trainer = made(folder, gradient_accumulation_steps=2, ddp_backend="gloo")
        callback = RangeTestCallback(trainer, steps=20, start=1e-4, stop=1.05)
        if tested:
            trainer.add_callback(callback)
        trainer.train()
        found.append(list(trainer.model.parameters()))
    curve = callback.curves[0]
    torch.save([curve.loss, curve.stopped, *found], f"{folder}/{trainer.args.process_index}.pt")


def test_two_processes_decide_alike(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    alike = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path)],
            env=os.environ | alike | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=240)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said[0][-2000:] + said[1][-2000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1))
    assert np.array_equal(first[0], second[0]) and first[1] == second[1]
    assert "exceeded 1.05 times" in first[1]
    for plain, tested, other in zip(*first[2:], second[3], strict=True):
        assert torch.equal(plain, tested) and torch.equal(tested, other)
    alone = made(tmp_path, gradient_accumulation_steps=4)
    callback = RangeTestCallback(alone, steps=20, start=1e-4, stop=None)
    alone.add_callback(callback)
    alone.train()
    # Dropout differs from process to process, and by the first step nothing else has.
    assert first[0][0] == pytest.approx(callback.curves[0].loss[0], rel=0.05)


if __name__ == "__main__":
    train_on_two(sys.argv[1])
