"""Initial weights, drawn with NumPy and kept as safetensors: the same for every framework."""

import math
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_arrays
from safetensors.numpy import save as serialise_arrays

from lrrt.config import CHOICES
from lrrt.core.network import Node, Parameter, parameters
from lrrt.core.streams import stream
from lrrt.errors import InputError
from lrrt.files import write_whole

CONSTANTS = {"scale": 1.0, "offset": 0.0, "mean": 0.0, "variance": 1.0}  # batch norm


def draw(nodes: list[Node], scheme: str, dense_bias: str, seed: int) -> dict[str, np.ndarray]:
    """Initial weights of a network, batch norm's statistics included.

    Each array has a random stream of its own, given by ``seed`` and its name: a layer more or
    less leaves the others as they are.

    Parameters
    ----------
    scheme : str
        Rule for the kernels, convolutional and dense; U(b) is uniform on [-b, b]:

        - ``he_uniform``: U(sqrt(6 / fan_in)) (He et al. 2015 as a uniform law; the post's).
        - ``he_normal``: normal of standard deviation sqrt(2 / fan_in) (He et al. 2015; PyTorch's
          ``kaiming_normal_``; Keras's rule of that name cuts it at two deviations).
        - ``glorot_uniform``: U(sqrt(6 / (fan_in + fan_out))) (Glorot and Bengio 2010).
        - ``keras_default``: ``glorot_uniform``, dense bias zero.
        - ``torch_default``: U(1 / sqrt(fan_in)), the dense bias likewise.
    dense_bias : {"zero", "uniform"}
        ``uniform``: U(1 / sqrt(fan_in)), PyTorch's default. The two ``..._default`` schemes say
        it themselves.

    Returns
    -------
    dict
        Canonical name to float32 array of canonical layout (:mod:`lrrt.core.network`). Batch norm
        starts at scale 1, offset 0, mean 0, variance 1.

    Raises
    ------
    InputError
        For an unknown scheme or dense bias, or a negative seed.
    """
    for key, value in (("weights", scheme), ("dense_bias", dense_bias)):
        if value not in CHOICES[key]:
            raise InputError(key, value, f"one of: {', '.join(CHOICES[key])}")
    if seed < 0:
        raise InputError("weights_seed", seed, "a whole number from 0")
    dense_bias = {"keras_default": "zero", "torch_default": "uniform"}.get(scheme, dense_bias)
    return {p.name: _draw(p, scheme, dense_bias, seed) for p in parameters(nodes)}


def _draw(parameter: Parameter, scheme: str, dense_bias: str, seed: int) -> np.ndarray:
    if parameter.kind in CONSTANTS:
        return np.full(parameter.shape, CONSTANTS[parameter.kind], dtype=np.float32)
    random = stream(seed, f"weights {parameter.name}")
    fan_in = parameter.fan_in
    if parameter.kind == "bias":
        bound = 0.0 if dense_bias == "zero" else 1 / math.sqrt(fan_in)
    elif scheme == "he_normal":
        drawn = random.standard_normal(parameter.shape) * math.sqrt(2 / fan_in)
        return drawn.astype(np.float32)
    elif scheme == "he_uniform":
        bound = math.sqrt(6 / fan_in)
    elif scheme == "torch_default":
        bound = 1 / math.sqrt(fan_in)
    else:
        bound = math.sqrt(6 / (fan_in + parameter.fan_out))
    return random.uniform(-bound, bound, parameter.shape).astype(np.float32)


def save(weights: dict[str, np.ndarray], path: str | Path) -> None:
    """Write ``weights`` as safetensors, whole or not at all."""
    content = serialise_arrays({name: np.ascontiguousarray(a) for name, a in weights.items()})
    write_whole(Path(path), content)


def load(path: str | Path, nodes: list[Node] | None = None) -> dict[str, np.ndarray]:
    """Read weights written by :func:`save`; with ``nodes``, :func:`check` them.

    Raises
    ------
    InputError
        If there is no such file, it is cut or no safetensors, or holds another network's weights.
    """
    try:
        weights = parse_arrays(Path(path).read_bytes())
    except OSError as error:
        raise InputError("weights", str(path), f"a readable file ({error.strerror})") from None
    except SafetensorError as error:
        raise InputError("weights", str(path), f"a whole safetensors file ({error})") from None
    if nodes is not None:
        check(weights, nodes, str(path))
    return weights


def check(weights: dict[str, np.ndarray], nodes: list[Node], source: str = "weights") -> None:
    """Raise :class:`InputError`, naming the first array amiss, unless ``weights`` fit ``nodes``.

    ``source`` says in the message where they come from. They fit when names, shapes and type
    (float32) are those of the network, no array more, none less.
    """
    expected = {p.name: p.shape for p in parameters(nodes)}
    for name, shape in expected.items():
        if name not in weights:
            raise InputError("weights", source, f"weights of this network, which has {name}")
        found = weights[name]
        if found.shape != shape or found.dtype != np.float32:
            raise InputError(
                "weights",
                source,
                f"weights of this network, whose {name} is float32 {shape}, "
                f"not {found.dtype} {found.shape}",
            )
    unknown = sorted(set(weights) - set(expected))
    if unknown:
        raise InputError("weights", source, f"weights of this network, which has no {unknown[0]}")
