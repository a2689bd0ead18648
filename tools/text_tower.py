"""The text tower: its tokenizer, its first weights, and a packed forward that trains it cheaply."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

import minilm

VOCABULARY = 8192
CONTEXT = 32
WIDTH = 256
PAD, SOS, EOS = 0, 1, VOCABULARY - 1  # the highest id, so that both pooling rules agree on it


def train_tokenizer(texts: Iterable[str], file: Path) -> Tokenizer:
    """Train a lower-case byte-level BPE on `texts` and write it: no text is ever unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 1, special_tokens=["[PAD]", "[SOS]"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(["[EOS]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[SOS] $A [EOS]", special_tokens=[("[SOS]", SOS), ("[EOS]", EOS)]
    )
    if tokenizer.token_to_id("[EOS]") != EOS or tokenizer.get_vocab_size() != VOCABULARY:
        raise ValueError(f"{tokenizer.get_vocab_size()} entries; more text is needed")
    tokenizer.save(str(file))
    return tokenizer


def config() -> CLIPTextConfig:
    """Return the shape of the tower: four layers, as every later forward computes them."""
    return CLIPTextConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=4 * WIDTH, projection_dim=WIDTH,
        num_hidden_layers=4, num_attention_heads=4, max_position_embeddings=CONTEXT,
        hidden_act="gelu", layer_norm_eps=1e-5, attention_dropout=0.0, pad_token_id=PAD,
        bos_token_id=SOS, eos_token_id=EOS,
    )  # fmt: skip


def first_weights(tokenizer: Tokenizer, encoder: Path) -> CLIPTextModelWithProjection:
    """Return a new tower whose token table starts from the sentence encoder's word vectors.

    A token takes the mean vector of the pieces that its letters have there, reduced to WIDTH
    dimensions by principal components: related words start close together.
    """
    model = CLIPTextModelWithProjection(config())
    pieces, table = minilm.word_table(encoder)
    known = pieces.get_vocab()
    vectors = np.zeros((VOCABULARY, table.shape[1]), np.float32)
    for token, i in tokenizer.get_vocab().items():
        text = tokenizer.decode([i], skip_special_tokens=False).strip()
        inside = f"##{text}"  # a token without the mark of a space continues a word
        if not token.startswith("Ġ") and inside in known:
            rows = [known[inside]]
        else:
            rows = pieces.encode(text, add_special_tokens=False).ids
        vectors[i] = table[rows].mean(0) if rows else 0
    vectors -= vectors.mean(0)
    _, _, axes = np.linalg.svd(vectors, full_matrices=False)
    reduced = vectors @ axes[:WIDTH].T
    with torch.no_grad():
        text = model.text_model
        text.embeddings.token_embedding.weight.copy_(
            torch.from_numpy(reduced * (0.05 / reduced.std()))
        )
        text.embeddings.position_embedding.weight.normal_(std=0.01)
    return model


def packed(
    model: CLIPTextModelWithProjection, rows: Sequence[tuple[int, list[list[int]]]]
) -> Tensor:
    """Return unit features of texts, (N, WIDTH), in the order of the rows.

    A row is (length of the common prefix, token lists): the prefix is read once, each text's rest
    sees the prefix and itself alone, at the positions that it has when read alone. Attention is
    causal, so this equals reading the texts one by one, at less than half the tokens.
    """
    ids, places, parts, ends = [], [], [], []
    for prefix, texts in rows:
        row, place, part, end = list(texts[0][:prefix]), list(range(prefix)), [0] * prefix, []
        for number, text in enumerate(texts, 1):
            rest = text[prefix:]
            row += rest
            place += range(prefix, prefix + len(rest))
            part += [number] * len(rest)
            end.append(len(row) - 1)
        ids.append(row)
        places.append(place)
        parts.append(part)
        ends.append(end)
    width = max(map(len, ids))

    def padded(lists: list[list[int]], fill: int) -> Tensor:
        return torch.tensor([x + [fill] * (width - len(x)) for x in lists])

    tokens, positions, part = padded(ids, PAD), padded(places, 0), padded(parts, -1)
    same = (part[:, :, None] == part[:, None, :]) | (part[:, None, :] == 0)
    mask = (same & torch.ones(width, width, dtype=torch.bool).tril())[:, None]

    text, heads = model.text_model, model.config.num_attention_heads
    x = text.embeddings.token_embedding(tokens) + text.embeddings.position_embedding(positions)
    layers: Any = text.encoder.layers
    for layer in layers:
        attention, y = layer.self_attn, layer.layer_norm1(x)
        q, k, v = (
            p(y).unflatten(-1, (heads, -1)).transpose(1, 2)
            for p in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + attention.out_proj(y.transpose(1, 2).flatten(2))
        x = x + layer.mlp(layer.layer_norm2(x))
    row = torch.tensor([r for r, e in enumerate(ends) for _ in e])
    pooled = text.final_layer_norm(x[row, torch.tensor([i for e in ends for i in e])])
    return F.normalize(model.text_projection(pooled), dim=-1)


def tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the ids of a text with [SOS] and [EOS], cut to the context length."""
    ids = tokenizer.encode(text).ids
    return ids if len(ids) <= CONTEXT else [*ids[: CONTEXT - 1], EOS]
