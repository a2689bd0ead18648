"""Published settings of SharpZO: Table 8 of arXiv 2506.20990, and the authors' program.

What the paper does not print, the spread of the projection A and the box, comes from the yaml
files of its program (github yifanycc/sharpzo at 13b491f).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sharpzo.errors import InputError
from sharpzo.search.cma import CmaSettings
from sharpzo.search.sharp import SharpnessSettings
from sharpzo.search.sharpzo import SharpZoSettings, SwitchSettings
from sharpzo.search.zo import ZoSettings


@dataclass(frozen=True)
class Preset:
    """A published run: ``settings`` of the search, and what lies around it.

    ``std`` of the entries of the random projection A (not scaled by the dimension), ``dim`` of w,
    ``tokens`` of context, ``shots`` per class, ``steps`` of both stages together.
    """

    settings: SharpZoSettings
    std: float
    steps: int
    dim: int = 512
    tokens: int = 4
    shots: int = 16


# Data set: sigma, mu of CGE in stage 1, T_c, eta | std of A, box.
_TABLE_8: dict[str, tuple[float, float, int, float, float, float | None]] = {
    "pets": (0.1, 1e-3, 100, 1e-3, 0.2, 5.0),
    "flowers": (0.4, 1e-3, 500, 1e-3, 0.2, 5.0),
    "fgvc": (0.2, 1e-3, 400, 1e-3, 0.2, None),
    "dtd": (0.4, 1e-5, 300, 1e-3, 1.0, 5.0),
    "eurosat": (0.4, 1e-3, 500, 1e-3, 1.0, 5.0),
    "cars": (1.0, 1e-3, 100, 1e-3, 0.2, 5.0),
    "food101": (0.1, 1e-3, 100, 1e-3, 0.2, None),
    "sun397": (0.4, 1e-3, 400, 1e-1, 0.2, 5.0),
    "caltech": (0.4, 1e-3, 200, 1e-3, 0.2, 5.0),
    "ucf101": (0.1, 1e-3, 200, 1e-3, 0.2, 5.0),
    "imagenet": (1.0, 1e-5, 200, 1e-1, 1.0, None),
}


def _paper(
    sigma: float, mu: float, generations: int, eta: float, std: float, bound: float | None
) -> Preset:
    """The equations as published; common to all data sets: S = 40, rho = 0.1, T = 20,000."""
    settings = SharpZoSettings(
        cma=CmaSettings(population_size=40, sigma=sigma, bound=bound),
        sharpness=SharpnessSettings(
            rho=0.1, estimator="cge", mu=mu, refresh_every=1, recorded="shifted"
        ),
        switch=SwitchSettings(generation=generations, patience=None),
        zo=ZoSettings(
            learning_rate=eta, mu=1e-3, queries=1, keep=0.5, score="z", refresh=200, mu_refresh=1e-5
        ),
        hand_over="mean",
        start_std=0.02,
    )
    return Preset(settings=settings, std=std, steps=20_000)


def _release() -> Preset:
    """What the released script computes (EuroSAT, change point 500 as in Table 8)."""
    settings = SharpZoSettings(
        cma=CmaSettings(population_size=40, sigma=0.4, bound=5.0),
        sharpness=SharpnessSettings(
            rho=0.1,
            estimator="cge",
            mu=1e-3,
            refresh_every=1,
            normalise="population",
            centre="population",
            recorded="samples",
        ),
        switch=SwitchSettings(generation=500, patience=None),
        zo=ZoSettings(
            learning_rate=1e-3,
            mu=1e-3,
            score="dense",
            keep=1.0,
            momentum=1.0,
            rows=40,
            inherit=True,
        ),
        hand_over="population",
    )
    return Preset(settings=settings, std=1.0, steps=200_000)


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {f"paper/{name}": _paper(*row) for name, row in _TABLE_8.items()} | {"release": _release()}
)


def preset(name: str) -> Preset:
    """Return a published preset by name; InputError names the known ones.

    >>> eurosat = preset("paper/eurosat")
    >>> eurosat.settings.switch.generation, eurosat.settings.cma.sigma, eurosat.std
    (500, 0.4, 1.0)
    """
    if name not in PRESETS:
        raise InputError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
