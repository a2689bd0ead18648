"""Ask / tell searches over vectors; they never see a model, a photo or a file."""

from sharpzo.search.cma import Cma, CmaSettings
from sharpzo.search.evolution import EvolutionSettings
from sharpzo.search.gauss_newton import GaussNewton
from sharpzo.search.gauss_newton_settings import GaussNewtonSettings
from sharpzo.search.lm_ma import LmMa
from sharpzo.search.mezo import MeZo, MeZoSettings
from sharpzo.search.sep_cma import SepCma
from sharpzo.search.sharp import SharpCma, SharpnessSettings
from sharpzo.search.sharpzo import SharpZo, SharpZoSettings, SwitchSettings
from sharpzo.search.sharpzo_fast import (
    FastSharpnessSettings,
    FastZoSettings,
    SharpZoFast,
    SharpZoFastSettings,
)
from sharpzo.search.spsa import Spsa, SpsaSettings
from sharpzo.search.zo import SparseZo, ZoSettings

__all__ = [
    "Cma",
    "CmaSettings",
    "EvolutionSettings",
    "FastSharpnessSettings",
    "FastZoSettings",
    "GaussNewton",
    "GaussNewtonSettings",
    "LmMa",
    "MeZo",
    "MeZoSettings",
    "SepCma",
    "SharpCma",
    "SharpZo",
    "SharpZoFast",
    "SharpZoFastSettings",
    "SharpZoSettings",
    "SharpnessSettings",
    "SparseZo",
    "Spsa",
    "SpsaSettings",
    "SwitchSettings",
    "ZoSettings",
]
