"""Ask / tell searches over vectors; they never read a model, a photo or a file."""

from sharpzo.optim.cma import Cma, CmaSettings
from sharpzo.optim.evolution import EvolutionSettings
from sharpzo.optim.gauss_newton import GaussNewton, GaussNewtonSettings
from sharpzo.optim.large_scale import LmMa, SepCma
from sharpzo.optim.search import Search
from sharpzo.optim.sharp import SharpCma, SharpnessSettings
from sharpzo.optim.sharpzo import SharpZo, SharpZoSettings, SwitchSettings
from sharpzo.optim.spsa import Spsa, SpsaSettings
from sharpzo.optim.zo import MeZo, MeZoSettings, SparseZo, ZoSettings

__all__ = [
    "Cma",
    "CmaSettings",
    "EvolutionSettings",
    "GaussNewton",
    "GaussNewtonSettings",
    "LmMa",
    "MeZo",
    "MeZoSettings",
    "Search",
    "SepCma",
    "SharpCma",
    "SharpZo",
    "SharpZoSettings",
    "SharpnessSettings",
    "SparseZo",
    "Spsa",
    "SpsaSettings",
    "SwitchSettings",
    "ZoSettings",
]
