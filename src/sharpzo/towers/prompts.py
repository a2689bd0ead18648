"""Token sequences of class names in a template; they share their beginning.

A prompt is [SOS] [context: n vectors] [class name and the rest of the template] [EOS]; a tokenizer
may also frame sentences otherwise. The context is what searches move; everything after it is fixed
and differs from class to class. Words become token ids as the checkpoint was trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sharpzo.errors import CheckpointError, InputError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.tokenizer import Tokenizer
from sharpzo.towers.weights import Weights
from sharpzo.types import Array


@dataclass(frozen=True)
class Prompts:
    """Token ids of the prompts of K classes.

    ``before`` and ``after`` frame a sentence: SOS and EOS. ``prefix`` holds the template's words
    before the class name; ``suffixes`` one sequence per class: the class name, the rest of the
    template and ``after``. ``n_context`` vectors stand between ``before`` and suffix; by default
    ``len(prefix)``. They are the same for all classes, or with ``specific`` each class has its
    own, one class after the other. ``whole``: every prompt is computed on its own; with ``pad``,
    the id of a token, all are filled up to ``length``.
    """

    class_names: tuple[str, ...]
    template: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    prefix: tuple[int, ...]
    suffixes: tuple[tuple[int, ...], ...]
    n_context: int
    specific: bool = False
    whole: bool = False
    pad: int | None = None
    length: int = 0

    @property
    def sos_id(self) -> int:
        """The id that begins a sentence, of a tokenizer that has one."""
        return self.before[0]

    @property
    def eos_id(self) -> int:
        """The id that ends a sentence, of a tokenizer that has one."""
        return self.after[0]

    @property
    def vectors(self) -> int:
        """Vectors of a whole context: ``n_context``, or so many for every class."""
        return self.n_context * (len(self.suffixes) if self.specific else 1)

    @property
    def tokens(self) -> int:
        """Tokens that a forward computes."""
        if self.whole and self.pad is not None:
            return len(self.suffixes) * self.length
        own = sum(map(len, self.suffixes))
        if self.whole:
            return own + len(self.suffixes) * (len(self.before) + self.n_context)
        return self.vectors + own


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
    tokenizer, limit = Tokenizer.open(checkpoint), checkpoint.text.context_length
    prompts = lay_out(tokenizer, limit, class_names, template, n_context, specific)
    for suffix in prompts.suffixes:
        ids = [*prompts.before, *prompts.prefix, *suffix]
        eos_id = None if checkpoint.text.highest else checkpoint.text.eos_id
        position = pool_position(ids, eos_id)
        if position != len(ids) - 1:
            raise CheckpointError(
                f"the text tower (eos_token_id {checkpoint.text.eos_id}) takes its feature at "
                f"token {position} of {ids}, not at EOS; set eos_token_id in config.json to "
                f"{ids[-1]}"
            )
    return prompts


def layout_appended(
    checkpoint: Checkpoint,
    class_names: Sequence[str],
    template: str = "a photo of a {}.",
    n_context: int | None = None,
    specific: bool = False,
) -> Prompts:
    """`layout` for a causal tower that is read at a class token behind everything else (CoCa).

    That token reads the prompt and the first token of filling, whose id is 0, but not itself: its
    mask is one place off in OpenCLIP and in all weights that were trained with it. So there has to
    be filling, and a word of id 0 would be taken for some. The token's own id is the first behind
    the vocabulary.
    """
    tokenizer = Tokenizer.open(checkpoint)
    tokenizer.unknown |= {0}
    limit = checkpoint.text.context_length - 1
    prompts = lay_out(tokenizer, limit, class_names, template, n_context, specific)
    ends = (0, checkpoint.text.vocabulary)
    return replace(prompts, suffixes=tuple((*suffix, *ends) for suffix in prompts.suffixes))


def lay_out(
    tokenizer: Tokenizer,
    limit: int,
    class_names: Sequence[str],
    template: str,
    n_context: int | None,
    specific: bool,
) -> Prompts:
    """`layout` for any tokenizer and a text tower that holds ``limit`` tokens."""
    if isinstance(class_names, str) or not len(class_names):
        raise InputError(f"class names are {class_names!r}; give a list of at least one name")
    if template.count("{}") != 1:
        raise InputError(f"template {template!r} must hold exactly one {{}} for the class name")
    if n_context is not None and n_context < 0:
        raise InputError(f"n_context is {n_context}; give 0 or more")
    # Byte-level encoders give the space before a word to that word, so it is not the prefix's.
    prefix = tokenizer.tokenize(template.split("{}")[0].rstrip())
    if not tokenizer.unknown.isdisjoint(tokenizer.tokenize(template.replace("{}", " "))):
        raise InputError(f"template {template!r} has characters that the tokenizer does not know")
    suffixes = [_suffix(tokenizer, prefix, template, str(name)) for name in class_names]
    n = len(prefix) if n_context is None else n_context
    names = tuple(str(name) for name in class_names)
    _check(tokenizer, limit, names, suffixes, n)
    before, after = tokenizer.before, tokenizer.after
    return Prompts(names, template, before, after, tuple(prefix), tuple(suffixes), n, specific)


def lay_out_whole(
    tokenizer: Tokenizer,
    limit: int,
    pad: int | None,
    class_names: Sequence[str],
    template: str,
    n_context: int | None,
    specific: bool,
) -> Prompts:
    """`lay_out` for a text tower that computes every prompt on its own, all filled up with the
    token ``pad`` unless that is None."""
    prompts = lay_out(tokenizer, limit, class_names, template, n_context, specific)
    return replace(prompts, whole=True, pad=pad, length=limit)


def start(checkpoint: Checkpoint, prompts: Prompts) -> Array:
    """Return the context that a search starts from, float32 (n, m), or (K * n, m) if specific.

    The embeddings of the template's words before the class name. If another number of vectors is
    wanted, the words next to the class name are kept and missing vectors on the left are the mean
    of the token table: the average token.
    """
    return start_in(checkpoint.weights, token_table(checkpoint), prompts)


def start_in(weights: Weights, table: str, prompts: Prompts) -> Array:
    """`start` of the token table called ``table``."""
    n = prompts.n_context
    context = np.empty((n, weights.shape(table)[1]), np.float32)
    kept = prompts.prefix[len(prompts.prefix) - min(n, len(prompts.prefix)) :]
    context[n - len(kept) :] = weights.rows(table, np.array(kept, np.int64))
    if len(kept) < n:
        context[: n - len(kept)] = moments_in(weights, table)[0]
    return np.tile(context, (len(prompts.suffixes), 1)) if prompts.specific else context


def pool_position(ids: Sequence[int], eos_id: int | None) -> int:
    """Return where the feature of a sentence is taken: at the first EOS, or without one at the
    first place of the highest id.

    >>> pool_position([7, 3, 9, 9], eos_id=9), pool_position([7, 30, 9, 9], eos_id=None)
    (2, 1)
    """
    if eos_id is None:
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
    return moments_in(checkpoint.weights, token_table(checkpoint))


def moments_in(weights: Weights, table: str) -> tuple[Array, float]:
    """`token_moments` of the token table called ``table``."""
    rows, width = weights.shape(table)
    total = np.zeros(width, np.float64)
    squares = 0.0
    for begin in range(0, rows, 1024):
        chunk = weights.rows(table, np.arange(begin, min(begin + 1024, rows)))
        weights.release()
        total += chunk.sum(axis=0, dtype=np.float64)
        squares += float(np.square(chunk, dtype=np.float64).sum())
    mean = total / rows
    variance = max(squares / rows - float(mean @ mean), 0.0)
    return mean.astype(np.float32), float(np.sqrt(2.0 * variance))


def _suffix(tokenizer: Tokenizer, prefix: list[int], template: str, name: str) -> tuple[int, ...]:
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
    if not suffix or not tokenizer.unknown.isdisjoint(suffix):
        raise InputError(f"class name {name!r} has characters that the tokenizer does not know")
    return (*suffix, *tokenizer.after)


def _check(
    tokenizer: Tokenizer,
    limit: int,
    names: Sequence[str],
    suffixes: Sequence[tuple[int, ...]],
    n: int,
) -> None:
    frame, seen = len(tokenizer.before + tokenizer.after), dict[tuple[int, ...], str]()
    for name, suffix in zip(names, suffixes, strict=True):
        own = len(suffix) - len(tokenizer.after)
        if frame + n + own > limit:
            raise InputError(
                f"class name {name!r} takes {own} tokens with the rest of the template; with {n} "
                f"context tokens and {frame} that frame the prompt the text tower holds {limit}, "
                f"so at most {max(limit - n - frame, 0)} are left: shorten the name or the "
                "template"
            )
        if suffix in seen:
            raise InputError(
                f"class names {seen[suffix]!r} and {name!r} are the same words to the text tower; "
                "rename or join them"
            )
        seen[suffix] = name
