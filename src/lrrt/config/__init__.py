"""The typed configuration: dataclasses, one validation at the edge, reading ``params.yaml``.

``conf/`` composes to ``params.yaml`` (by ``dvc exp run`` or by ``lrrt compose``); every stage reads
``params.yaml`` through :func:`load`. No framework is imported here.
"""

from lrrt.config.reading import from_mapping, load
from lrrt.config.schema import Config, DataSection, LauncherSection, Scaled, Sweep

__all__ = [
    "Config",
    "DataSection",
    "LauncherSection",
    "Scaled",
    "Sweep",
    "from_mapping",
    "load",
]
