"""The norm of many small gradients at once: the bits of one after the other."""

import pytest

torch = pytest.importorskip("torch")

from lrrt.finder.torch_norm import GradientNorm, plain_norm  # noqa: E402

SHAPES = {
    "thin layers": [(16, 64), (16,), *[(16, 16), (16,)] * 40, (10, 16), (10,)],
    "convolutions": [(8, 3, 3, 3), (8,), *[(8, 8, 3, 3), (8,), (8,), (8,)] * 9, (10, 8), (10,)],
    "odd sizes": [*[(7, 33)] * 9, *[(129,)] * 8, *[(1,)] * 9, *[(65, 65)] * 9, *[(4096,)] * 9],
    "alike": [(31, 17)] * 20,
    "few": [(16, 16), (16,)] * 3,
}


def gradients_of(shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    scales = 10 ** torch.randn(len(shapes), generator=generator)
    return [
        scale * torch.randn(s, generator=generator) for scale, s in zip(scales, shapes, strict=True)
    ]


@pytest.mark.parametrize("name", SHAPES)
def test_norm_has_the_bits_of_the_plain_one(name):
    norm = GradientNorm(gradients_of(SHAPES[name], 0))
    assert bool(norm.stacks) == (name != "few")
    for seed in range(50):
        gradients = gradients_of(SHAPES[name], seed)
        assert norm(gradients).item() == plain_norm(gradients).item()
        assert norm(gradients[1:]).item() == plain_norm(gradients[1:]).item()  # one has none
    gradients[3] = torch.full_like(gradients[3], torch.inf)
    assert norm(gradients).item() == torch.inf


def test_gradients_of_another_layout_are_summed_up_one_after_the_other(monkeypatch):
    gradients = [
        g.to(memory_format=torch.channels_last) for g in gradients_of([(8, 8, 3, 3)] * 9, 0)
    ]
    norm = GradientNorm(gradients)
    monkeypatch.setattr(torch, "cat", None)
    assert norm(gradients).item() == plain_norm(gradients).item()
