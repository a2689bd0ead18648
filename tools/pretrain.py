"""Make the embedded model: frozen DINOv2 ViT-S/14 and a small text tower trained to match it.

    python tools/pretrain.py --tiny-imagenet DIR --imagenet DIR --wordnet DIR --minilm DIR \
        --dinov2-onnx FILE --out src/sharpzo/assets/model --work DIR

Stages, each cached in --work so that an interrupted run continues:
1. image features of every training photo, once (the image tower never changes);
2. a teacher for the nouns that have no photos (`teacher.py`), from sentence embeddings and WordNet;
3. a byte-level BPE tokenizer over WordNet;
4. the text tower: contrast against photos, and distillation of the teacher over common nouns;
5. the checkpoint, in the layout of `transformers.VisionTextDualEncoderModel`.

Inputs: Tiny-ImageNet (train/ and val/ by WordNet offset), one ImageNet photo per class
(`<offset>_<name>.JPEG`), WordNet 3.0's `data.noun`, `index.noun`, `cntlist.rev`, an unpacked
all-MiniLM-L6-v2, and the ONNX export of DINOv2. `evaluate.py` measures the result.
Cost of the shipped model (900 steps) on two cores of a shared AVX2 machine without a GPU: about 20
minutes of image features, 6 of sentence embeddings, 24 of training at 1.3 to 2.1 s per step.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch.nn import functional as F

import checkpoint
import dinov2
import minilm
import photos
import teacher
import text_tower
import wordnet

ROW = 32  # texts that share one prefix
PHOTO_ROWS = 3  # per step: rows of captions of classes with photos
NOUN_ROWS = 7  # per step: rows of nouns; many different names help a small tower most
PHOTOS_PER_CLASS = 6  # image features are cached, so more photos cost nothing
NAMES = 60_000  # the most visible and common names; most others are Latin names of species
PEAK_RATE = 1.5e-3
WARM_UP = 60
AVERAGE = 0.99  # of the weights, over steps
DISTIL_SCALE = 15.0  # inverse temperature of the teacher's similarities among nouns
SAVE_EVERY = 50


def main() -> None:
    """Run all stages."""
    parser = argparse.ArgumentParser(description="Make the embedded model.")
    for name in ("tiny-imagenet", "imagenet", "wordnet", "minilm", "dinov2-onnx", "out", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--hold-out-classes", type=int, default=0,
                        help="Tiny-ImageNet classes whose photos are never seen")  # fmt: skip
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.work.mkdir(parents=True, exist_ok=True)

    nouns = wordnet.read(args.wordnet)
    data = class_features(args, nouns)
    names, targets, weights = noun_targets(args, nouns, data)
    tokenizer = make_tokenizer(args, nouns)
    checkpoint.write_image(args.out, dinov2.read_export(args.dinov2_onnx))
    train(args, nouns, data, names, targets, weights, tokenizer)


def class_features(args: argparse.Namespace, nouns: dict[str, wordnet.Noun]) -> dict[str, Any]:
    """Return the photos' features, their classes, and the frozen visual projection."""
    tower = dinov2.build(args.dinov2_onnx)
    train, _, _ = photos.tiny_imagenet(args.tiny_imagenet, args.seed)
    parts = [photos.imagenet(args.imagenet), train]
    cache = args.work / "features"
    rows = np.concatenate(
        [photos.features(p, lambda b: dinov2.encode(tower, b), cache) for p in parts]
    )
    offsets = np.array([o for p in parts for o in p.labels])
    keep = ~np.isin(offsets, photos.held_out(args.tiny_imagenet, args.hold_out_classes))
    rows, offsets = rows[keep], offsets[keep]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    classes, labels = np.unique(offsets, return_inverse=True)
    counts = np.bincount(labels)
    means = np.zeros((len(classes), rows.shape[1]))
    np.add.at(means, labels, rows)
    means /= counts[:, None]
    centre = np.average(means, axis=0, weights=1 / (1 + 20 / counts))
    projection = teacher.projection(rows, labels, means, centre, text_tower.WIDTH)
    unit = rows @ projection.T
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return {
        "classes": classes.tolist(), "labels": labels, "counts": counts, "means": means,
        "projection": projection, "photos": torch.from_numpy(unit.astype(np.float32)),
    }  # fmt: skip


def noun_targets(
    args: argparse.Namespace, nouns: dict[str, wordnet.Noun], data: dict[str, Any]
) -> tuple[list[str], torch.Tensor, list[float]]:
    """Return names, the teacher's unit target for each (N, WIDTH), and sampling weights."""
    best = wordnet.names(nouns)
    names = sorted(best, key=lambda n: (-best[n][1], n))[:NAMES]
    offsets = [best[n][0] for n in names]

    def described(name: str, offset: str) -> str:
        parents = nouns[offset].parents
        return f"{name}, {nouns[parents[0]].lemmas[0]}" if parents else name

    texts = [described(n, o) for n, o in zip(names, offsets, strict=True)]
    sentences = []
    for start in range(0, len(texts), 10_000):
        file = args.work / f"sentences-{start:06d}.npz"
        if not file.exists():
            np.savez(file, rows=minilm.embed(texts[start : start + 10_000], args.minilm))
        sentences.append(np.load(file)["rows"].astype(np.float32))
    file = args.work / "sentences-classes.npz"
    everything = sorted({p.name[:9] for p in args.imagenet.glob("n*.JPEG")})
    if not file.exists():
        rows = minilm.embed([described(nouns[o].lemmas[0], o) for o in everything], args.minilm)
        np.savez(file, rows=rows)
    rows = [everything.index(c) for c in data["classes"]]
    sentence, fit = np.concatenate(sentences), np.load(file)["rows"][rows]

    tree = teacher.ancestry(nouns, [*data["classes"], *offsets], data["classes"])
    own, other = tree[: len(fit)], tree[len(fit) :]
    kernel = fit @ fit.T + (own @ own.T).toarray()
    cross = sentence @ fit.T + (other @ own.T).toarray()
    predicted, centre = teacher.predict(kernel, cross, data["means"], data["counts"])
    target = torch.from_numpy((predicted - centre) @ data["projection"].T).float()
    return names, F.normalize(target, dim=-1), [best[n][1] for n in names]


def make_tokenizer(args: argparse.Namespace, nouns: dict[str, wordnet.Noun]) -> Tokenizer:
    """Train the tokenizer on names (by weight), glosses and templates, or read it back."""
    file = args.work / "tokenizer.json"
    if not file.exists():
        texts = [n.gloss for n in nouns.values() if n.file in wordnet.CONCRETE]
        for name, (_, weight) in wordnet.names(nouns).items():
            texts += [name] * min(30, 1 + int(4 * weight))
        text_tower.train_tokenizer([*texts, *wordnet.TEMPLATES * 50], file)
    return Tokenizer.from_file(str(file))


def text_row(
    names: list[str], tokenizer: Tokenizer, rng: random.Random
) -> tuple[int, list[list[int]]]:
    """Put names into one template and find the tokens that all begin with: a row for `packed`."""
    template = wordnet.template(rng)
    texts = [text_tower.tokens(tokenizer, wordnet.fill(template, n)) for n in names]
    first = texts[0]
    prefix = 1
    while all(len(t) > prefix + 2 and t[prefix] == first[prefix] for t in texts):
        prefix += 1
    return prefix, texts


def train(
    args: argparse.Namespace, nouns: dict[str, wordnet.Noun], data: dict[str, Any],
    names: list[str], targets: torch.Tensor, weights: list[float], tokenizer: Tokenizer,
) -> None:  # fmt: skip
    """Train the text tower from the last checkpoint in --work, and write --out as it goes."""
    model = text_tower.first_weights(tokenizer, args.minilm)
    scale = torch.nn.Parameter(torch.tensor(float(np.log(1 / 0.07))))
    named = {**dict(model.named_parameters()), "logit_scale": scale}
    decay = [p for p in named.values() if p.ndim > 1]
    rest = [p for p in named.values() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.02}, {"params": rest, "weight_decay": 0.0}],
        lr=PEAK_RATE, betas=(0.9, 0.98),
    )  # fmt: skip
    average = {k: p.detach().clone() for k, p in named.items()}
    begin = restore(args.work, named, average, optimiser)

    cumulative = np.cumsum(weights).tolist()
    places = [np.flatnonzero(data["labels"] == c) for c in range(len(data["classes"]))]
    rich = [c for c, count in enumerate(data["counts"]) if count > 20]
    single = [c for c, count in enumerate(data["counts"]) if count <= 20]
    began, log = time.time(), []
    for step in range(begin, args.steps):
        rng = random.Random(f"{args.seed}-{step}")  # a step's draw does not depend on earlier steps
        rate = PEAK_RATE * min(1.0, (step + 1) / WARM_UP)
        rate *= 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / args.steps))
        for group in optimiser.param_groups:
            group["lr"] = rate

        half = PHOTO_ROWS * ROW * 3 // 4
        classes = rng.sample(rich, min(half, len(rich)))
        classes += rng.sample(single, PHOTO_ROWS * ROW - len(classes))
        rng.shuffle(classes)
        called = [rng.choice((lemmas := nouns[data["classes"][c]].lemmas)[:1] * 2 + lemmas)
                  for c in classes]  # fmt: skip
        chosen = rng.choices(range(len(names)), cum_weights=cumulative, k=NOUN_ROWS * ROW)
        chosen.sort(key=lambda i: len(names[i]))  # deal long and short names out evenly:
        chosen = [i for r in range(NOUN_ROWS) for i in chosen[r::NOUN_ROWS]]  # less padding
        texts = called + [names[i] for i in chosen]
        rows = [text_row(texts[i : i + ROW], tokenizer, rng) for i in range(0, len(texts), ROW)]

        features = text_tower.packed(model, rows)
        captions, read = features[: len(classes)], features[len(classes) :]
        picked = [
            (i, p) for i, c in enumerate(classes)
            for p in rng.sample(list(places[c]), min(PHOTOS_PER_CLASS, len(places[c])))
        ]  # fmt: skip
        owner = torch.tensor([i for i, _ in picked])
        logits = scale.exp() * data["photos"][[p for _, p in picked]] @ captions.T
        share = F.one_hot(owner, len(classes)).float()  # a caption's photos share its probability
        contrast = (
            F.cross_entropy(logits, owner)
            + F.cross_entropy(logits.T, (share / share.sum(0)).T)
        ) / 2  # fmt: skip
        goal = targets[chosen]
        cosine = (1 - (read * goal).sum(-1)).mean()
        kin = F.kl_div(
            F.log_softmax(DISTIL_SCALE * read @ goal.T, -1),
            F.softmax(DISTIL_SCALE * goal @ goal.T, -1), reduction="batchmean",
        )  # fmt: skip
        loss = contrast + 4 * cosine + kin
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(named.values()), 1.0)
        optimiser.step()
        with torch.no_grad():
            scale.clamp_(max=float(np.log(100)))
            keep = min(AVERAGE, (1 + step) / (10 + step))
            for key, value in named.items():
                average[key].lerp_(value, 1 - keep)
        log.append([contrast.item(), cosine.item(), kin.item()])
        if (step + 1) % 20 == 0:
            a, b, c = np.mean(log[-20:], axis=0)
            pace = (time.time() - began) / (step + 1 - begin)
            print(
                f"step {step + 1}: contrast {a:.3f} cosine {b:.3f} kin {c:.3f} {pace:.2f} s/step",
                flush=True,
            )
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == args.steps:
            save(args.work, step + 1, named, average, optimiser)
            checkpoint.write_text(args.out, model, average, data["projection"], tokenizer)
            print(f"wrote {args.out} after {step + 1} steps", flush=True)


def save(work: Path, step: int, named: dict, average: dict, optimiser: torch.optim.AdamW) -> None:
    """Write weights, their average and the optimiser's moments, atomically."""
    tensors = {f"weight.{k}": p.detach() for k, p in named.items()}
    tensors |= {f"average.{k}": p for k, p in average.items()}
    for k, p in named.items():
        for moment in ("exp_avg", "exp_avg_sq", "step"):
            tensors[f"{moment}.{k}"] = optimiser.state[p][moment]
    unfinished = work / "text.unfinished"
    save_file({k: v.contiguous() for k, v in tensors.items()}, unfinished, {"step": str(step)})
    unfinished.rename(work / "text.safetensors")
    (work / "progress.json").write_text(json.dumps({"step": step}))


def restore(work: Path, named: dict, average: dict, optimiser: torch.optim.AdamW) -> int:
    """Read the last checkpoint back, if any; return the step to go on with."""
    if not (work / "progress.json").exists():
        return 0
    tensors = load_file(work / "text.safetensors")
    with torch.no_grad():
        for k, p in named.items():
            p.copy_(tensors[f"weight.{k}"])
            average[k].copy_(tensors[f"average.{k}"])
            moments = ("exp_avg", "exp_avg_sq", "step")
            optimiser.state[p] = {m: tensors[f"{m}.{k}"] for m in moments}
    return json.loads((work / "progress.json").read_text())["step"]


if __name__ == "__main__":
    main()
