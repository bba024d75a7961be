"""Initial weights, drawn with NumPy: the same for every framework."""

import math

import numpy as np

from lrrt.core.network import Node, Parameter, parameters
from lrrt.core.protocol import CHOICES
from lrrt.core.random_streams import stream
from lrrt.errors import InputError

EMBEDDING_DEVIATION = 0.02  # whatever the scheme; GPT-2's (Radford et al. 2019)
CONSTANTS = {"scale": 1.0, "offset": 0.0, "mean": 0.0, "variance": 1.0}  # of norms


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
        Canonical name to float32 array of canonical layout (:mod:`lrrt.core.network`). Norms start
        at scale 1, offset 0, mean 0, variance 1; embeddings are normal of deviation 0.02.

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
    if parameter.kind == "embedding":
        drawn = random.standard_normal(parameter.shape) * EMBEDDING_DEVIATION
        return drawn.astype(np.float32)
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
