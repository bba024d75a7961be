"""The typed configuration: dataclasses, one validation at the edge, reading ``params.yaml``.

``conf/`` composes to ``params.yaml`` (by ``dvc exp run`` or by ``lrrt compose``); every stage reads
``params.yaml`` through :func:`load`. No framework is imported here.
"""

from lrrt.config.reading import from_mapping, load
from lrrt.config.schema import (
    CHOICES,
    FACTORS,
    AttributionConfig,
    Config,
    DataConfig,
    DivergenceConfig,
    InstrumentConfig,
    LauncherConfig,
    MechanismConfig,
    ModelConfig,
    PairsConfig,
    ProtocolConfig,
    RampConfig,
    Scaled,
    SweepConfig,
    WeightDecayConfig,
)
from lrrt.config.validation import LARGEST, SMALLEST, validate_ramp

__all__ = [
    "AttributionConfig",
    "CHOICES",
    "Config",
    "DataConfig",
    "DivergenceConfig",
    "FACTORS",
    "InstrumentConfig",
    "LARGEST",
    "LauncherConfig",
    "MechanismConfig",
    "ModelConfig",
    "PairsConfig",
    "ProtocolConfig",
    "RampConfig",
    "SMALLEST",
    "Scaled",
    "SweepConfig",
    "WeightDecayConfig",
    "from_mapping",
    "load",
    "validate_ramp",
]
