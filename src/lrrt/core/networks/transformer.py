"""A decoder-only transformer, pre-norm, for the next token (Radford et al. 2019, GPT-2, small).

Embedding and learnt positions; ``depth`` blocks x + attention(norm(x)), then x + mlp(norm(x)), the
MLP four times as wide with GELU; layer norm, dense. Dropout after the positions and at the end of
attention and MLP.
"""

from dataclasses import dataclass, replace

from lrrt.core.checks import check_range
from lrrt.core.network import Node
from lrrt.core.protocol import ModelSection
from lrrt.errors import InputError

INPUT = "tokens"
DROPPED = ("position", "_mix", "_fall")


@dataclass
class Model(ModelSection):
    """``width``: channels of a token, a multiple of ``heads``."""

    name: str = "transformer"
    depth: int = 2
    width: int = 64
    heads: int = 4
    dropout: float = 0.0


def validate(model: Model) -> None:
    check_range("model.depth", model.depth, 1, 100)
    check_range("model.heads", model.heads, 1, 1000)
    check_range("model.dropout", model.dropout, 0, 0.99)
    if model.width < 1 or model.width % model.heads:
        words = f"a multiple of model.heads = {model.heads}"
        raise InputError("model.width", model.width, words)


def nodes(model: Model, shape: tuple[int, ...], classes: int) -> list[Node]:
    """``shape``: (tokens,); logits of ``classes`` tokens after each token."""
    validate(model)
    width = model.width
    found = [
        Node("embedding", "embedding", ("input",), width, classes),
        Node("position", "position", ("embedding",), width, shape[0]),
    ]
    for i in range(1, model.depth + 1):
        found += _block(f"block{i}", found[-1].name, width, model.heads)
    if model.dropout:
        found = _with_dropout(found, model.dropout)
    return [
        *found,
        Node("norm", "layer_norm", (found[-1].name,), width, width),
        Node("dense", "dense", ("norm",), classes, width),
    ]


def _block(name: str, before: str, width: int, heads: int) -> list[Node]:
    def dense(part: str, given: str, outputs: int = width, inputs: int = width) -> Node:
        return Node(f"{name}_{part}", "dense", (f"{name}_{given}",), outputs, inputs)

    mixed = tuple(f"{name}_{part}" for part in ("query", "key", "value"))
    return [
        Node(f"{name}_norm1", "layer_norm", (before,), width, width),
        dense("query", "norm1"),
        dense("key", "norm1"),
        dense("value", "norm1"),
        Node(f"{name}_attention", "attention", mixed, width, heads=heads),
        dense("mix", "attention"),
        Node(f"{name}_add1", "add", (f"{name}_mix", before), width),
        Node(f"{name}_norm2", "layer_norm", (f"{name}_add1",), width, width),
        dense("rise", "norm2", 4 * width),
        Node(f"{name}_gelu", "gelu", (f"{name}_rise",), 4 * width),
        dense("fall", "gelu", width, 4 * width),
        Node(f"{name}_add2", "add", (f"{name}_fall", f"{name}_add1"), width),
    ]


def _with_dropout(nodes: list[Node], rate: float) -> list[Node]:
    """Each of the :data:`DROPPED` with dropout after it, which is read in its stead."""
    dropped = {node.name for node in nodes if node.name.endswith(DROPPED)}
    found = []
    for node in nodes:
        inputs = tuple(f"{name}_dropout" if name in dropped else name for name in node.inputs)
        found.append(replace(node, inputs=inputs))
        if node.name in dropped:
            name = f"{node.name}_dropout"
            found.append(Node(name, "dropout", (node.name,), node.channels, rate=rate))
    return found
