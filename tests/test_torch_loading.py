"""Batches of a TensorDataset cut out at once: the bits and the order of the user's own loader."""

import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import (  # noqa: E402
    DataLoader,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from lrrt.finder.torch_loading import gathered  # noqa: E402

X = torch.randn(50, 3, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(50)
SAMPLES = TensorDataset(X, Y)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


LOADERS = {
    "in order": lambda: DataLoader(SAMPLES, 8),
    "shuffled by the global generator": lambda: DataLoader(SAMPLES, 8, shuffle=True),
    "shuffled by its own": lambda: DataLoader(
        SAMPLES, 8, shuffle=True, drop_last=True, generator=seeded()
    ),
    "a part": lambda: DataLoader(Subset(SAMPLES, [9, 2, 40, 7, 7]), 2, shuffle=True),
    "sampled": lambda: DataLoader(SAMPLES, 8, sampler=SubsetRandomSampler([1, 5, 6], seeded())),
    "weighted": lambda: DataLoader(SAMPLES, 8, sampler=WeightedRandomSampler(Y + 1.0, 20)),
}


@pytest.mark.parametrize("name", LOADERS)
def test_batches_and_random_states_are_those_of_the_loader(name):
    found = []
    for made in (LOADERS[name], lambda: gathered(LOADERS[name]())):
        torch.manual_seed(0)
        loader = made()
        batches = [batch for _ in range(2) for batch in loader]
        assert all(type(batch) is list for batch in batches)
        found.append((type(loader.dataset), batches, torch.get_rng_state()))
    (plain, wanted, state), (other, given, after) = found
    assert plain is not other
    assert torch.equal(state, after) and len(wanted) == len(given)
    for batch, same in zip(wanted, given, strict=True):
        for tensor, equal in zip(batch, same, strict=True):
            assert torch.equal(tensor, equal) and tensor.stride() == equal.stride()


class Transformed(TensorDataset):
    def __getitem__(self, index):
        return X[index] + 1, Y[index]


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(Transformed(X, Y), 8),
        DataLoader(SAMPLES, 8, collate_fn=lambda samples: default_collate(samples)),
        DataLoader(SAMPLES, 8, num_workers=1),
        DataLoader(SAMPLES, None),
        DataLoader(SAMPLES, 8, sampler=range(50)),
        DataLoader(TensorDataset(X.transpose(1, 2), Y), 8),
        [(X, Y)],
    ],
)
def test_what_may_be_other_batches_is_left_alone(loader):
    assert gathered(loader) is loader
