"""The image side of the ladder: what tuning the last image block is worth, by exact gradients.

    python experiments/ladder/image_block.py --data DATASETS   # torch and transformers
    python experiments/ladder/table.py

Activations of the training photos before the last image block are computed once; from there on a
step runs that block at the class token alone, which reads the other tokens through two small
products a head (the queries are taken through the key matrix, the mixture of tokens through the
value matrix), about a thirtieth of an image pass. Tuned beside an offset of each class's text:

* ``norms``: gains and biases of the three norms and the biases of the block's linear layers;
* ``low-rank``: rank-4 changes of the query, value, output and MLP matrices.

Adam, rate 0.01, full batch, ``--steps`` steps; the loss is the cross-entropy plus 0.01 |offset|**2.
Afterwards ``ladder+gda`` is fitted anew to the tuned features. The figures are accuracies on all
held-out development photos. Rank, rate and steps come from a trial on such photos of EuroSAT, so
its figures are slightly optimistic. The test split is not read.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
import torch
from harness import SEEDS, Lines
from safetensors.torch import load_file, save_file
from torch.nn import functional as f

from sharpzo.data.photo import Photo
from sharpzo.descent import minimise
from sharpzo.methods.ladder import LadderSettings, fit_ladder
from sharpzo.metrics import accuracy, softmax
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower
from sharpzo.types import Features

LINES = Lines(__file__, "image_block.jsonl")
PARTS = {
    "norms": [("norm1", "gain"), ("norm1", "bias"), ("norm2", "gain"), ("norm2", "bias"),
              ("norm", "gain"), ("norm", "bias"), ("query", "bias"), ("value", "bias"),
              ("out", "bias"), ("fc1", "bias"), ("fc2", "bias")],
    "low-rank": [(part, "matrix") for part in ("query", "value", "out", "fc1", "fc2")],
}  # fmt: skip
Pairs = dict[str, tuple[torch.Tensor, torch.Tensor]]


def last_block(checkpoint: Checkpoint) -> Pairs:
    """Weights and biases of the last block and the final norm; LayerScale folded in."""
    m, wide = checkpoint.image.width, checkpoint.image.mlp_width
    name = f"vision_model.encoder.layer.{checkpoint.image.layers - 1}"
    inner = f"{name}.attention"
    pairs = {
        "norm1": checkpoint.pair(f"{name}.norm1", m),
        "query": checkpoint.pair(f"{inner}.attention.query", m, m),
        "key": checkpoint.pair(f"{inner}.attention.key", m, m),
        "value": checkpoint.pair(f"{inner}.attention.value", m, m),
        "out": checkpoint.pair(f"{inner}.output.dense", m, m),
        "norm2": checkpoint.pair(f"{name}.norm2", m),
        "fc1": checkpoint.pair(f"{name}.mlp.fc1", wide, m),
        "fc2": checkpoint.pair(f"{name}.mlp.fc2", m, wide),
        "norm": checkpoint.pair("vision_model.layernorm", m),
    }
    for part, scale in (("out", "layer_scale1"), ("fc2", "layer_scale2")):
        factor = checkpoint.tensor(f"{name}.{scale}.lambda1", (m,))
        pairs[part] = pairs[part][0] * factor[:, None], pairs[part][1] * factor
    return {part: (torch.tensor(w), torch.tensor(b)) for part, (w, b) in pairs.items()}


def features(tokens: torch.Tensor, first: torch.Tensor, p: Pairs, heads: int, eps: float) -> Any:
    """Normalised tokens (N, T, m) and the class token itself (N, m) -> states (N, m)."""
    m = first.shape[1]
    gain, bias = p["norm1"]
    asked = f.linear(tokens[:, 0] * gain + bias, *p["query"]).view(-1, heads, m // heads)
    # The key's bias adds the same to every token's score, and so does norm1's: softmax ignores it.
    through = torch.einsum("nhd,hdm->nhm", asked, p["key"][0].view(heads, -1, m)) * gain
    share = torch.softmax((m // heads) ** -0.5 * through @ tokens.transpose(1, 2), dim=-1)
    mixed = torch.einsum(
        "nhm,hdm->nhd", (share @ tokens) * gain + bias, p["value"][0].view(heads, -1, m)
    )
    x = first + f.linear(mixed.reshape(-1, m) + p["value"][1], *p["out"])
    h = f.gelu(f.linear(f.layer_norm(x, (m,), *p["norm2"], eps), *p["fc1"]))
    return f.layer_norm(x + f.linear(h, *p["fc2"]), (m,), *p["norm"], eps)


def changed(base: Pairs, moves: dict[Any, Any]) -> Pairs:
    """The block with its changes, each measured in the size of what it changes."""
    p = dict(base)
    for (part, what), move in moves.items():
        weight, bias = p[part]
        if what == "gain":
            p[part] = weight * (1 + move), bias
        elif what == "bias":
            p[part] = weight, bias + base[part][1].abs().mean() * move
        else:
            low, high = move
            size = base[part][0].std() * base["norm"][0].numel() ** 0.5
            p[part] = weight + size * high @ low, bias
    return p


def main() -> None:
    parser = harness.parser(__doc__, ["eurosat", "fashion-mnist"])
    parser.add_argument("--shots", type=int, nargs="+", default=[16, 4])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0.01)
    args = parser.parse_args()
    torch.set_num_threads(1)
    from transformers import VisionTextDualEncoderModel

    folder = resolve(None)
    model = VisionTextDualEncoderModel.from_pretrained(folder, dtype=torch.float32).eval()
    vision, checkpoint = model.vision_model, Checkpoint.open(folder)
    heads, eps = checkpoint.image.heads, checkpoint.image.norm_eps
    base, project = last_block(checkpoint), model.visual_projection.weight.detach()

    def vectors(tokens: Any, first: Any, pairs: Pairs) -> torch.Tensor:
        return f.normalize(features(tokens, first, pairs, heads, eps) @ project.T, dim=-1)

    for dataset in args.datasets:
        draws = {
            (shots, seed): harness.draw(args.data, dataset, seed, shots)
            for shots in {16, *args.shots} for seed in SEEDS
        }  # fmt: skip
        names = draws[16, 1].class_names
        rows: dict[str, int] = {}
        known: list[tuple[Photo, int]] = []
        held: dict[Any, list[int]] = {}
        for key, draw in draws.items():
            for what in ("train", "val"):
                split = getattr(draw, what)
                for photo, label in zip(split.photos, split.labels, strict=True):
                    if (digest := photo.digest()) not in rows:
                        rows[digest] = len(known)
                        known.append((photo, int(label)))
                    held.setdefault((*key, what), []).append(rows[digest])
        labels = np.array([label for _, label in known])
        tokens, first = activations(args, dataset, known, vision, checkpoint, eps)
        text = OnnxTextTower(checkpoint, names, threads=1)
        unit = text.forward(text.start[None])[0]
        unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
        scale = text.logit_scale

        def measured(pairs: Pairs, train: list[int], val: list[int], others: list[int]) -> float:
            def encoded(some: list[int]) -> Features:
                parts = [some[i : i + 100] for i in range(0, len(some), 100)]
                with torch.no_grad():
                    found = [vectors(tokens[p].float(), first[p], pairs).numpy() for p in parts]  # noqa: B023
                return Features(np.concatenate(found), labels[some], names)  # noqa: B023

            settings = LadderSettings(gaussian=0.25)
            head = fit_ladder(encoded(train), unit, encoded(val), settings).head  # noqa: B023
            return accuracy(head.scores(encoded(others)), labels[others])  # noqa: B023

        for shots in args.shots:
            for seed in SEEDS:
                train, val = held[shots, seed, "train"], held[shots, seed, "val"]
                others = sorted(set(rows.values()) - set(train) - set(val))
                wanted = torch.tensor(labels[train])
                shown = tokens[train].float(), first[train]
                for kind, parts in PARTS.items():
                    draws_of = torch.Generator().manual_seed(seed)
                    moves: dict[Any, Any] = {}
                    for part, what in parts:
                        out, wide = base[part][0].shape[0], base[part][0].shape[-1]
                        if what == "matrix":
                            low = torch.randn(args.rank, wide, generator=draws_of) / wide**0.5
                            moves[part, what] = low, torch.zeros(out, args.rank)
                        else:
                            moves[part, what] = torch.zeros(out)
                    tuned = [
                        t for m in moves.values() for t in (m if isinstance(m, tuple) else (m,))
                    ]
                    offsets = torch.tensor(text_offsets(shown, base, vectors, unit, scale, wanted))
                    for t in (*tuned, offsets):
                        t.requires_grad_(True)
                    rates = [{"params": tuned}, {"params": [offsets], "lr": args.rate / 5}]
                    descent = torch.optim.Adam(rates, lr=args.rate)
                    begin = time.perf_counter()
                    for _ in range(args.steps):
                        descent.zero_grad()
                        weight = torch.tensor(unit) + offsets
                        logits = scale * vectors(*shown, changed(base, moves)) @ weight.T
                        loss = f.cross_entropy(logits, wanted) + 0.01 * (offsets**2).sum()
                        loss.backward()
                        descent.step()
                    seconds = time.perf_counter() - begin
                    with torch.no_grad():
                        after = changed(base, moves)
                    line = {
                        "dataset": dataset, "shots": shots, "seed": seed, "tuned": kind,
                        "parameters": sum(t.numel() for t in tuned), "photos": len(others),
                        "before": measured(base, train, val, others),
                        "after": measured(after, train, val, others),
                        "steps": args.steps, "rank": args.rank,
                        "rate": args.rate, "seconds": round(seconds, 1),
                        "model": checkpoint.fingerprint[:12],
                    }  # fmt: skip
                    LINES.append(line)


def text_offsets(
    shown: Any, base: Pairs, vectors: Any, unit: Any, scale: float, wanted: Any
) -> Any:
    """Where the descent starts: the offsets (K, D) of least loss with the block as it is."""
    with torch.no_grad():
        known = vectors(*shown, base).double().numpy()
    one_hot = np.eye(len(unit))[wanted.numpy()]

    def loss(offsets: Any) -> tuple[float, Any]:
        probabilities = softmax(scale * known @ (unit + offsets).T)
        error = scale / len(known) * (probabilities - one_hot)
        value = 0.01 * (offsets**2).sum() - np.log((probabilities * one_hot).sum(axis=1)).mean()
        return float(value), error.T @ known + 0.02 * offsets

    return minimise(loss, np.zeros(unit.shape)).astype(np.float32)


def activations(
    args: Any, dataset: str, known: list[Any], vision: Any, checkpoint: Any, eps: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens before the last block, normalised (N, T, m) in half precision, and the class token."""
    kept = args.cache / f"last-block-{dataset}-{len(known)}.safetensors"
    if kept.exists():
        found = load_file(kept)
        return found["tokens"], found["first"]
    tower, tokens, first = OnnxImageTower(checkpoint, threads=1), [], []
    for i in range(0, len(known), 16):
        pixels = torch.tensor(tower.pixels([photo.decode() for photo, _ in known[i : i + 16]]))
        with torch.no_grad():
            x = vision(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
        first.append(x[:, 0].clone())
        tokens.append(f.layer_norm(x, x.shape[-1:], eps=eps).half())
    found = {"tokens": torch.cat(tokens), "first": torch.cat(first)}
    save_file(found, kept)
    return found["tokens"], found["first"]


if __name__ == "__main__":
    main()
