"""WordNet's nouns as a source of names: synsets with lemmas, parents, a gloss and a weight.

Folder names of ImageNet are offsets of WordNet 3.0 (`n01440764` is the synset at 01440764 in
`data.noun`), so photos are assigned to words without a list of our own.
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass, field
from pathlib import Path

# How visible in photos the nouns of each lexicographer's file are: weights in distillation.
VISIBLE = {
    3: 0.5, 4: 0.15, 5: 1.5, 6: 3.0, 7: 0.15, 8: 1.5, 9: 0.1, 10: 0.4, 11: 0.2, 12: 0.05, 13: 2.0,
    14: 0.3, 15: 1.0, 16: 0.02, 17: 3.0, 18: 0.5, 19: 0.5, 20: 0.8, 21: 0.15, 22: 0.1, 23: 0.1,
    24: 0.1, 25: 1.0, 26: 0.15, 27: 1.0, 28: 0.1,
}  # fmt: skip
CONCRETE = {5, 6, 8, 13, 15, 17, 19, 20, 25, 27}  # animal, artifact, body, food, location, ...


@dataclass
class Noun:
    """A synset. `weight` says how often training draws its names."""

    offset: str
    file: int
    lemmas: list[str]
    parents: list[str]
    gloss: str
    instance: bool
    count: int = 0
    weight: float = 0.0
    ranks: list[int] = field(default_factory=list)  # of this sense, for each lemma


def read(folder: Path) -> dict[str, Noun]:
    """Read `data.noun`, `index.noun` and `cntlist.rev` of WordNet 3.0."""
    counts = {}
    for line in (folder / "cntlist.rev").read_text().splitlines():
        key, _, count = line.split()
        counts[key] = int(count)
    senses = {}  # (lemma, offset) -> rank of that sense, 1 = the most frequent
    for line in (folder / "index.noun").read_text().splitlines():
        if not line.startswith(" "):
            words = line.split()
            for rank, offset in enumerate(words[-int(words[2]) :], 1):
                senses[words[0], "n" + offset] = rank

    nouns = {}
    for line in (folder / "data.noun").read_text().splitlines():
        if line.startswith(" "):
            continue
        data, _, gloss = line.partition(" | ")
        words = data.split()
        offset, file, n = "n" + words[0], int(words[1]), int(words[3], 16)
        lemmas, keys = words[4 : 4 + 2 * n : 2], words[5 : 5 + 2 * n : 2]
        pointers = words[5 + 2 * n :]
        up = [(pointers[i], "n" + pointers[i + 1]) for i in range(0, len(pointers), 4)]
        noun = Noun(
            offset, file, [w.replace("_", " ").lower() for w in lemmas],
            [o for kind, o in up if kind in ("@", "@i")], short_gloss(gloss),
            any(kind == "@i" for kind, _ in up),
        )  # fmt: skip
        for lemma, key in zip(lemmas, keys, strict=True):
            lemma = lemma.lower()
            noun.count += counts.get(f"{lemma}%1:{file:02d}:{int(key, 16):02d}::", 0)
            noun.ranks.append(senses.get((lemma, offset), 9))
        noun.weight = VISIBLE[file] * (0.1 if noun.instance else 1.0)
        noun.weight *= 1 + math.log1p(noun.count)
        nouns[offset] = noun
    return nouns


def short_gloss(gloss: str, words: int = 9) -> str:
    """Return the head of a definition: no brackets, no examples, the first clause, few words."""
    text = re.sub(r"\([^)]*\)", "", gloss).split('"')[0].split(";")[0]
    return " ".join(re.sub(r"[^a-zA-Z' ,-]", " ", text).lower().split()[:words]).strip(" ,")


def ancestors(nouns: dict[str, Noun], offset: str) -> dict[str, int]:
    """Return every synset above `offset` and itself, with the least number of steps to it."""
    found, edge = {offset: 0}, [offset]
    while edge:
        up = [(p, found[o] + 1) for o in edge for p in nouns[o].parents if p not in found]
        found.update(up)
        edge = [p for p, _ in up]
    return found


def names(nouns: dict[str, Noun]) -> dict[str, tuple[str, float]]:
    """Return each name with the synset that a photo of it most probably shows, and a weight.

    A name with several senses (crane) keeps the one with the greatest weight / rank.
    """
    best: dict[str, tuple[str, float]] = {}
    for noun in nouns.values():
        for lemma, rank in zip(noun.lemmas, noun.ranks, strict=True):
            rare = 0.5 if " " in lemma and not noun.count else 1.0
            weight = rare * noun.weight / rank
            if weight > best.get(lemma, ("", 0.0))[1]:
                best[lemma] = (noun.offset, weight)
    return best


# {} is a name with its article, [] a bare name. The first is what evaluation and users write.
PHOTO = "a photo of a []."
TEMPLATES = [
    "a photo of {}.", "{}", "a photo of []", "the []", "a good photo of {}.",
    "a close-up photo of {}.", "a blurry photo of {}.", "a low resolution photo of {}.",
    "a picture of {}.",
    "an image of {}.", "a bad photo of the [].", "a photo of the [].", "a photo of one [].",
    "a small photo of {}.", "a cropped photo of {}.", "itap of {}.", "a drawing of {}.",
    "{} in a video game.", "art of the [].", "a photo of my [].", "a black and white photo of {}.",
    "a centered satellite photo of [].", "a satellite photo of [].", "an aerial view of {}.",
    "[] texture.", "a photo of {}, a type of object.", "a product photo of {}.", "there is {}.",
]  # fmt: skip


def article(name: str) -> str:
    """Return the name with "a" or "an"."""
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"


def fill(template: str, name: str) -> str:
    """Put a name into a template."""
    return template.replace("{}", article(name)).replace("[]", name)


def template(rng: random.Random) -> str:
    """Draw a template: "a photo of a []." is half of them, as in downstream prompts.

    That one always says "a", as CoOp's does, whatever letter follows. A bare name, the cheapest
    text of all, is a quarter.
    """
    draw = rng.random()
    return PHOTO if draw < 0.5 else "[]" if draw < 0.75 else rng.choice(TEMPLATES)
