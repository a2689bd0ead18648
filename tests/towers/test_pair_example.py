"""The example of docs/models.md: two encoders by torch.onnx.export, against the torch model."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from pair_models import WORDS, write_tokenizer
from random_models import randomise, relative, torch, transformers

from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 48}  # fmt: skip


def save_source(folder: Path):
    text = transformers.BertConfig(**SMALL, vocab_size=len(WORDS), max_position_embeddings=24)
    vision = transformers.ViTConfig(**SMALL, image_size=32, patch_size=8)
    config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(
        vision, text, projection_dim=20
    )
    model = transformers.VisionTextDualEncoderModel(config).eval()
    randomise(model)
    model.save_pretrained(folder)
    write_tokenizer(folder / "tokenizer.json")
    settings = {"size": {"height": 32, "width": 32}, "do_center_crop": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_the_example_of_the_page(tmp_path, monkeypatch, dynamo):
    if dynamo:
        pytest.importorskip("onnxscript")
    model = save_source(tmp_path / "my-model")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    code = code.replace("dynamo=False", f"dynamo={dynamo}")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(PAGE), "exec"), {})
    checkpoint = Checkpoint.open(tmp_path / "my-pair")

    pixels = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        seen = model.vision_model(pixel_values=torch.from_numpy(pixels)).pooler_output
        wanted = model.visual_projection(seen).numpy()
    assert relative(OnnxImageTower(checkpoint).forward(pixels), wanted) < 1e-5

    tower = OnnxTextTower(checkpoint, ["cat", "bright dog", "the dark blue cat"])
    features = []
    for suffix in tower.prompts.suffixes:
        ids = torch.tensor([[*tower.prompts.before, *tower.prompts.prefix, *suffix]])
        with torch.no_grad():
            read = model.text_model(input_ids=ids).pooler_output
            features.append(model.text_projection(read)[0].numpy())
    assert relative(tower.untuned, np.stack(features)) < 1e-5
    assert checkpoint.logit_scale == pytest.approx(model.logit_scale.exp().item(), rel=1e-6)
