"""A small random checkpoint of each family of image towers, for tests that run commands on all."""

from __future__ import annotations

from pathlib import Path


def save_families(root: Path) -> Path:
    """Write ``clip``, ``open_clip``, ``resnet``, ``avg`` and ``siglip``; return the second."""
    from towers.open_clip_models import from_transformers, save_resnet, with_options
    from towers.random_models import TEXT, VISION, save_clip
    from towers.siglip_models import save_siglip

    vision = {**VISION, "intermediate_size": 64, "image_size": 32, "patch_size": 16}
    save_clip(root / "clip", TEXT, vision)
    made = from_transformers(root / "clip", root / "open_clip")
    save_resnet(made, root / "resnet")
    with_options(made, root / "avg", "vision", {"pool_type": "avg"})
    save_siglip(root / "siglip")
    return made
