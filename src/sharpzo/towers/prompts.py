"""Class names and a template become token sequences that share their beginning.

A prompt is [SOS] [context: n vectors] [class name and the rest of the template] [EOS]. The context
is what searches move; everything after it is fixed and differs from class to class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sharpzo.errors import CheckpointError, InputError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.tokenizer import Tokenizer
from sharpzo.types import Array


@dataclass(frozen=True)
class Prompts:
    """Token ids of the prompts of K classes.

    ``prefix`` holds the template's words before the class name; ``suffixes`` one sequence per
    class: the class name, the rest of the template and EOS. ``n_context`` vectors stand between SOS
    and suffix; without a wish for another number that is ``len(prefix)``. They are the same for all
    classes, or with ``specific`` each class has its own, one class after the other.
    """

    class_names: tuple[str, ...]
    template: str
    sos_id: int
    eos_id: int
    prefix: tuple[int, ...]
    suffixes: tuple[tuple[int, ...], ...]
    n_context: int
    specific: bool = False

    @property
    def vectors(self) -> int:
        """Vectors of a whole context: ``n_context``, or so many for every class."""
        return self.n_context * (len(self.suffixes) if self.specific else 1)

    @property
    def tokens(self) -> int:
        """Tokens that a forward computes."""
        return self.vectors + sum(map(len, self.suffixes))


def layout(
    checkpoint: Checkpoint,
    class_names: Sequence[str],
    template: str = "a photo of a {}.",
    n_context: int | None = None,
    specific: bool = False,
) -> Prompts:
    """Tokenise class names in a template and check that every prompt fits the text tower.

    Underscores in class names are read as spaces. Raises `InputError` for an unusable template,
    an empty list, names that are equal once tokenised, unknown characters and names too long for
    the tower; `CheckpointError` if the tower would take its feature elsewhere than at EOS.
    """
    if isinstance(class_names, str) or not len(class_names):
        raise InputError(f"class names are {class_names!r}; give a list of at least one name")
    if template.count("{}") != 1:
        raise InputError(f"template {template!r} must hold exactly one {{}} for the class name")
    if n_context is not None and n_context < 0:
        raise InputError(f"n_context is {n_context}; give 0 or more")
    tokenizer = Tokenizer.open(checkpoint)
    # Byte-level encoders give the space before a word to that word, so it is not the prefix's.
    prefix = tokenizer.tokenize(template.split("{}")[0].rstrip())
    suffixes = [_suffix(tokenizer, prefix, template, str(name)) for name in class_names]
    n = len(prefix) if n_context is None else n_context
    _check_length(checkpoint, class_names, suffixes, n)
    _check_distinct(class_names, suffixes)
    frame = [tokenizer.sos_id, *prefix]
    for suffix in suffixes:
        _check_pooling(checkpoint, [*frame, *suffix])
    return Prompts(
        class_names=tuple(str(name) for name in class_names),
        template=template,
        sos_id=tokenizer.sos_id,
        eos_id=tokenizer.eos_id,
        prefix=tuple(prefix),
        suffixes=tuple(tuple(suffix) for suffix in suffixes),
        n_context=n,
        specific=specific,
    )


def start(checkpoint: Checkpoint, prompts: Prompts) -> Array:
    """Return the context that a search starts from, float32 (n, m), or (K * n, m) if specific.

    The embeddings of the template's words before the class name. If another number of vectors is
    wanted, the words next to the class name are kept and missing vectors on the left are the mean
    of the token table: a token that says nothing in particular.
    """
    config, n = checkpoint.text, prompts.n_context
    table = token_table(checkpoint)
    context = np.empty((n, config.width), np.float32)
    kept = prompts.prefix[len(prompts.prefix) - min(n, len(prompts.prefix)) :]
    context[n - len(kept) :] = checkpoint.weights.rows(table, np.array(kept, np.int64))
    if len(kept) < n:
        context[: n - len(kept)] = token_moments(checkpoint)[0]
    return np.tile(context, (len(prompts.suffixes), 1)) if prompts.specific else context


def pool_position(ids: Sequence[int], eos_id: int) -> int:
    """Return where transformers' `CLIPTextModel` takes the feature of a sentence.

    >>> pool_position([7, 3, 9, 9], eos_id=9), pool_position([7, 30, 9, 9], eos_id=2)
    (2, 1)
    """
    if eos_id == 2:  # legacy rule: the first place of the highest id
        return int(np.argmax(ids))
    return int(np.argmax(np.asarray(ids) == eos_id))


def token_table(checkpoint: Checkpoint) -> str:
    """Return the name of the token table after checking its shape."""
    config = checkpoint.text
    name = "text_model.embeddings.token_embedding.weight"
    return checkpoint.find(name, (config.vocabulary, config.width))


def token_moments(checkpoint: Checkpoint) -> tuple[Array, float]:
    """Return the mean row of the token table and the RMS distance between two random rows.

    For independent rows that is sqrt(2) times the RMS distance to the mean row. The table is read
    in slices: it can be the largest tensor of a text tower.
    """
    name, rows = token_table(checkpoint), checkpoint.text.vocabulary
    total = np.zeros(checkpoint.text.width, np.float64)
    squares = 0.0
    for begin in range(0, rows, 1024):
        chunk = checkpoint.weights.rows(name, np.arange(begin, min(begin + 1024, rows)))
        checkpoint.weights.release()
        total += chunk.sum(axis=0, dtype=np.float64)
        squares += float(np.square(chunk, dtype=np.float64).sum())
    mean = total / rows
    variance = max(squares / rows - float(mean @ mean), 0.0)
    return mean.astype(np.float32), float(np.sqrt(2.0 * variance))


def _suffix(tokenizer: Tokenizer, prefix: list[int], template: str, name: str) -> list[int]:
    words = " ".join(name.replace("_", " ").split())
    if not words:
        raise InputError(f"class name {name!r} is empty")
    ids = tokenizer.tokenize(template.replace("{}", words))
    if ids[: len(prefix)] != prefix:
        raise InputError(
            f"template {template!r} ties the class name {name!r} to the word before it; put a "
            "space before {}"
        )
    suffix = ids[len(prefix) :]
    if not suffix or tokenizer.eos_id in suffix or tokenizer.sos_id in suffix:
        raise InputError(f"class name {name!r} has characters that the tokenizer does not know")
    return [*suffix, tokenizer.eos_id]


def _check_length(
    checkpoint: Checkpoint, names: Sequence[str], suffixes: list[list[int]], n: int
) -> None:
    limit = checkpoint.text.context_length
    for name, suffix in zip(names, suffixes, strict=True):
        if 1 + n + len(suffix) > limit:
            raise InputError(
                f"class name {str(name)!r} takes {len(suffix) - 1} tokens with the rest of the "
                f"template; with {n} context tokens and 2 that frame the prompt the text tower "
                f"holds {limit}, so at most {max(limit - n - 2, 0)} are left: shorten the name or "
                "the template"
            )


def _check_distinct(names: Sequence[str], suffixes: list[list[int]]) -> None:
    seen: dict[tuple[int, ...], str] = {}
    for name, suffix in zip(names, suffixes, strict=True):
        if tuple(suffix) in seen:
            raise InputError(
                f"class names {seen[tuple(suffix)]!r} and {str(name)!r} are the same words to the "
                "text tower; rename or join them"
            )
        seen[tuple(suffix)] = str(name)


def _check_pooling(checkpoint: Checkpoint, ids: list[int]) -> None:
    position = pool_position(ids, checkpoint.text.eos_id)
    if position != len(ids) - 1:
        raise CheckpointError(
            f"the text tower (eos_token_id {checkpoint.text.eos_id}) takes its feature at token "
            f"{position} of {ids}, not at EOS; set eos_token_id in config.json to {ids[-1]}"
        )
