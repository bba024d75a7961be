"""Two processes (gloo) that train one model: one decision for both, or a refusal."""

import numpy as np
import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import lrrt
from lrrt.errors import InputError

LOSS = nn.CrossEntropyLoss()
STEPS = 40


def training(rank, scale=1.0):
    """Model, optimiser, data and validation of a rank; ``scale`` multiplies the second rank's
    inputs. The ranks validate on unlike numbers of batches."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3))
    model = DistributedDataParallel(model)
    x = torch.randn(96, 6)
    y = x[:, :3].argmax(1)
    data = TensorDataset(x * (scale if rank else 1.0), y)
    loader = DataLoader(data, 8, sampler=DistributedSampler(data, seed=1))
    validation = [(x[:8], y[:8])] * (1 + rank)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return model, optimizer, loader, validation


def both_tests(rank):
    model, optimizer, loader, validation = training(rank)
    before = [p.detach().clone() for p in model.parameters()]
    options = {"steps": STEPS, "start": 1e-3, "stop": 1.5}
    whole = lrrt.range_test(
        model, LOSS, loader, optimizer, validation=validation, accumulate=2, **options
    )
    assert all(map(torch.equal, before, model.parameters()))
    exploded = lrrt.range_test(
        *exploding(rank), steps=STEPS, start=1e-3, batch_loss=lambda m, b: LOSS(m(b[0]), b[1])
    )
    return whole.loss, whole.val_loss, whole.stopped, exploded.loss, exploded.stopped


def exploding(rank):
    """The second rank's fifth batch has no finite loss."""
    model, optimizer, loader, _ = training(rank)
    batches = list(loader)
    if rank:
        batches[4][0][:] = torch.nan
    return model, None, batches, optimizer


def by_hand(rank):
    """The mean losses of both ranks of a loop by hand."""
    model, optimizer, loader, _ = training(rank)
    losses = []
    batches = [batch for _ in range(20) for batch in loader]
    for step, lr in enumerate(np.geomspace(1e-3, 10, STEPS)):
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        first, second = batches[2 * step : 2 * step + 2]
        with model.no_sync():
            loss = LOSS(model(first[0]), first[1])
            (loss / 2).backward()
        other = LOSS(model(second[0]), second[1])
        (other / 2).backward()
        optimizer.step()
        mean = torch.tensor([loss.item() + other.item()], dtype=torch.float64)
        distributed.all_reduce(mean)
        losses.append(mean.item() / 4)
    return losses


def refused(rank):
    model, optimizer, loader, _ = training(rank)
    try:
        lrrt.range_test(model.module, LOSS, loader, optimizer)
    except InputError as error:
        return str(error)


def worker(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    torch.save([f(rank) for f in (both_tests, by_hand, refused)], f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def on_both(tmp_path_factory):
    """What each function gave on both ranks."""
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("needs PyTorch with gloo")
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(worker, (str(folder),), nprocs=2)
    found = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]
    return dict(zip(("both_tests", "by_hand", "refused"), zip(*found, strict=True), strict=True))


@pytest.mark.slow(3)
def test_two_ranks_see_one_curve_and_end_together(on_both):
    first, second = on_both["both_tests"]
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a, b, equal_nan=True) if isinstance(a, np.ndarray) else a == b
    loss, val_loss, stopped, exploded, why = first
    assert "exceeded 1.5 times" in stopped and len(loss) < STEPS
    assert np.isfinite(val_loss).all()
    assert len(exploded) == 5 and "nan at step 4" in why
    assert loss.tolist() == on_both["by_hand"][0][: len(loss)]


@pytest.mark.slow(1)
def test_a_model_that_does_not_average_its_gradients_is_refused(on_both):
    for message in on_both["refused"]:
        assert "model: expected DistributedDataParallel" in message and "2 processes" in message
