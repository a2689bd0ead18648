"""The sentence encoder behind the teacher: all-MiniLM-L6-v2, read from an unpacked folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import BertModel

LONGEST = 24  # tokens per sentence: names and short glosses


@torch.inference_mode()
def embed(texts: Sequence[str], folder: Path, batch: int = 256) -> np.ndarray:
    """Return unit sentence embeddings (N, 384), float32: the mean over a sentence's tokens."""
    model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    ids = [e.ids for e in tokenizer.encode_batch(list(texts))]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # little padding: equal lengths
    out = np.zeros((len(ids), model.config.hidden_size), np.float32)
    began = time.time()
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        width = len(ids[rows[-1]])
        tokens = torch.tensor([ids[i] + [0] * (width - len(ids[i])) for i in rows])
        mask = torch.tensor([[1] * len(ids[i]) + [0] * (width - len(ids[i])) for i in rows])
        hidden = model(input_ids=tokens, attention_mask=mask).last_hidden_state
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        out[rows] = torch.nn.functional.normalize(mean, dim=-1).numpy()
        if start // batch % 50 == 0:
            print(f"embedded {start} of {len(ids)}: {time.time() - began:.0f} s", flush=True)
    return out


def word_table(folder: Path) -> tuple[Tokenizer, np.ndarray]:
    """Return the encoder's tokenizer and its table of token vectors."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    model = BertModel.from_pretrained(folder, add_pooling_layer=False)
    return tokenizer, model.embeddings.word_embeddings.weight.detach().numpy()
