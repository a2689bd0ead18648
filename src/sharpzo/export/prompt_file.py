"""The tuned prompt alone: as safetensors, and as the checkpoint that CoOp's program loads.

CoOp's ``load_model(DIR)`` reads ``DIR/prompt_learner/model-best.pth.tar``, a dict of ``epoch`` and
``state_dict``, and takes what its prompt learner calls ``ctx``: (n, m), or (K, n, m) with one
context per class. Other keys it passes over without a word, so that name matters.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from sharpzo.errors import InputError
from sharpzo.export.bundle import new_folder
from sharpzo.export.classifier_graph import model_name
from sharpzo.fitting.trained import Trained
from sharpzo.types import Array

CONTEXT, COOP = "context.safetensors", "prompt_learner/model-best.pth.tar"


def prompt_of(trained: Trained) -> Array:
    """The tuned context, float32: (n, m), or (K, n, m) of a method with one per class.

    Raises InputError for a run that tuned none.
    """
    found = trained.arrays.get("context")
    if found is None:
        raise InputError(
            f"the run's method, {trained.method.name}, tunes no prompt; leave --prompt-only out"
        )
    if trained.method.shared_context:
        return found
    many = len(trained.record.get("trained_class_names", trained.class_names))
    return found.reshape(many, -1, found.shape[-1])


def write_prompt(trained: Trained, out: Path) -> bool:
    """Write a folder with the prompt, and CoOp's checkpoint where torch is installed; return
    whether it is."""
    from safetensors.numpy import save

    context, torch_here = prompt_of(trained), find_spec("torch") is not None
    about = {
        "class_names": json.dumps(
            trained.record.get("trained_class_names", list(trained.class_names))
        ),
        "template": trained.template,
        "method": trained.method.name,
        "model": model_name(trained),
    }
    with new_folder(out) as folder:
        blob = save({"ctx": np.ascontiguousarray(context, np.float32)}, metadata=about)
        (folder / CONTEXT).write_bytes(blob)
        if torch_here:
            import torch

            file = folder / COOP
            file.parent.mkdir()
            ctx = torch.from_numpy(np.array(context, np.float32))
            torch.save({"state_dict": {"ctx": ctx}, "epoch": 1}, file)
    return torch_here
