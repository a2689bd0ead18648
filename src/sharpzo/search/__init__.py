"""Ask / tell searches over vectors; they never see a model, a photo or a file."""

from sharpzo.search.cma import Cma, CmaSettings
from sharpzo.search.sharp import SharpCma, SharpnessSettings
from sharpzo.search.sharpzo import SharpZo, SharpZoSettings, SwitchSettings
from sharpzo.search.zo import SparseZo, ZoSettings

__all__ = [
    "Cma",
    "CmaSettings",
    "SharpCma",
    "SharpZo",
    "SharpZoSettings",
    "SharpnessSettings",
    "SparseZo",
    "SwitchSettings",
    "ZoSettings",
]
