"""A stored range test as its protocol's finder records it, and what its rule says."""

import numpy as np

from lrrt.core import rules
from lrrt.core.curve import Curve
from lrrt.core.recording import recording
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Store, load_result


def stored_suggestion(spec: RunSpec, store: Store) -> rules.Suggestion:
    """What the rule of the specification's own protocol says about the stored curve.

    Raises
    ------
    InputError
        For a run that the store lacks.
    """
    return rules.replay(spec.protocol.rule, *stored_recording(spec, store))


def stored_recording(spec: RunSpec, store: Store) -> tuple[np.ndarray, np.ndarray]:
    """LR and loss of a stored range test as its protocol's finder records them.

    Raises like :func:`stored_suggestion`.
    """
    arrays = load_result(store, spec).arrays
    curve = Curve(**{name: arrays[name] for name in ("lr", "loss", "penalty", "grad_norm")})
    return recording(curve, spec.protocol)
