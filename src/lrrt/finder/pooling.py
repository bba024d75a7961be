"""Several range tests read as one."""

from collections.abc import Iterable

from lrrt.core.edge import Pooled, pooled
from lrrt.errors import InputError
from lrrt.finder.curve import Curve


def pool(
    curves: Curve | Iterable[Curve], schedule: str = "constant", *, penalty: bool = False
) -> Pooled:
    """What range tests of one model say together: a rate, an interval, or why neither.

    Their raw losses are pooled before anything is read (:mod:`lrrt.core.edge`); ramps may differ.
    ``lrrt.pool(audit.curves)`` reads an audit so.

    Parameters
    ----------
    curves : Curve or iterable of Curve
        One or more.
    schedule : {"constant", "one_cycle"}
        What will be trained with; ``lr`` is then the constant rate, or one cycle's highest.
    penalty : bool
        Add the L2 penalty to the losses.

    Raises
    ------
    InputError
        For another schedule, no curve, or something else than curves.
    """
    curves = [curves] if isinstance(curves, Curve) else list(curves)
    for curve in curves:
        if not isinstance(curve, Curve):
            raise InputError("curves", type(curve).__name__, "curves of lrrt.range_test")
    return pooled([curve.recorded(penalty) for curve in curves], schedule)
