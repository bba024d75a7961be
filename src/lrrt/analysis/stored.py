"""A stored range test as its protocol's finder records it, and what its rule says."""

import numpy as np

from lrrt.core import rules
from lrrt.core.curve import Curve
from lrrt.core.replay import recorded
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Store, kept


def read(spec: RunSpec, store: Store) -> rules.Suggestion:
    """What the rule of the specification's own protocol says about the stored curve.

    Raises
    ------
    InputError
        For a run that the store lacks.
    """
    return rules.replay(spec.protocol.rule, *as_recorded(spec, store))


def as_recorded(spec: RunSpec, store: Store) -> tuple[np.ndarray, np.ndarray]:
    """LR and loss of a stored range test as its protocol's finder records them.

    Raises like :func:`read`.
    """
    arrays = kept(store, spec).arrays
    curve = Curve(**{name: arrays[name] for name in ("lr", "loss", "penalty", "grad_norm")})
    return recorded(curve, spec.protocol)
