"""Checkpoints for the tests of the towers."""

from __future__ import annotations

import pytest
from random_models import TEXT, VISION, save_clip, save_dual, torch, transformers

from sharpzo.towers.checkpoint import EMBEDDED


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Name -> (folder, transformers model) of small random checkpoints."""
    root = tmp_path_factory.mktemp("checkpoints")
    vision = {**VISION, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    made = {
        "clip-quick": save_clip(root / "clip-quick", TEXT, vision),
        "clip-gelu": save_clip(
            root / "clip-gelu",
            {**TEXT, "hidden_act": "gelu"},
            {**vision, "hidden_act": "gelu"},
        ),
        "clip-legacy": save_clip(root / "clip-legacy", TEXT, vision, eos=2),
        "dual": save_dual(root / "dual"),
    }
    return {name: (root / name, model) for name, model in made.items()}


@pytest.fixture(scope="session")
def embedded():
    """Folder and transformers model of the embedded checkpoint."""
    if not (EMBEDDED / "config.json").is_file():
        pytest.skip("the embedded model has not been made yet")
    kind = transformers.VisionTextDualEncoderModel
    return EMBEDDED, kind.from_pretrained(EMBEDDED, dtype=torch.float32).eval()
