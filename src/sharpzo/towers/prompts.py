"""Token sequences of class names in a template; they share their beginning.

A prompt is [SOS] [context: n vectors] [class name and the rest of the template] [EOS]; a tokenizer
may also frame sentences otherwise. The context is what searches move; everything after it is fixed
and differs from class to class. Words become token ids as the checkpoint was trained.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpzo.errors import CheckpointError, InputError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.contents import TOKENIZER_FILES
from sharpzo.towers.weights import Weights
from sharpzo.types import Array

if TYPE_CHECKING:
    import tokenizers

# CLIP's own pattern: contractions, runs of letters, single digits, runs of anything else.
_PATTERN = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
_SOS, _EOS = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class Prompts:
    """Token ids of the prompts of K classes.

    ``before`` and ``after`` frame a sentence: SOS and EOS. ``prefix`` holds the template's words
    before the class name; ``suffixes`` one sequence per class: the class name, the rest of the
    template and ``after``. ``n_context`` vectors stand between ``before`` and suffix; by default
    ``len(prefix)``. They are the same for all classes, or with ``specific`` each class has its
    own, one class after the other.
    """

    class_names: tuple[str, ...]
    template: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    prefix: tuple[int, ...]
    suffixes: tuple[tuple[int, ...], ...]
    n_context: int
    specific: bool = False

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
    tokenizer, limit = Tokenizer.open(checkpoint), checkpoint.text.context_length
    prompts = lay_out(tokenizer, limit, class_names, template, n_context, specific)
    for suffix in prompts.suffixes:
        ids = [*prompts.before, *prompts.prefix, *suffix]
        position = pool_position(ids, checkpoint.text.eos_id)
        if position != len(ids) - 1:
            raise CheckpointError(
                f"the text tower (eos_token_id {checkpoint.text.eos_id}) takes its feature at "
                f"token {position} of {ids}, not at EOS; set eos_token_id in config.json to "
                f"{ids[-1]}"
            )
    return prompts


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
    suffixes = [_suffix(tokenizer, prefix, template, str(name)) for name in class_names]
    n = len(prefix) if n_context is None else n_context
    names = tuple(str(name) for name in class_names)
    _check(tokenizer, limit, names, suffixes, n)
    before, after = tokenizer.before, tokenizer.after
    return Prompts(names, template, before, after, tuple(prefix), tuple(suffixes), n, specific)


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


class Tokenizer:
    """Words to ids, and the ids that begin and end a sentence.

    ``tokenize`` returns ids without special tokens; ``before`` and ``after`` frame a sentence.
    ``unknown`` ids are in no class name that the tower can read.
    """

    def __init__(
        self,
        core: tokenizers.Tokenizer,
        before: tuple[int, ...],
        after: tuple[int, ...],
        unknown: frozenset[int] = frozenset(),
    ) -> None:
        self._core = core
        self.before, self.after = before, after
        self.unknown = unknown.union(before, after)

    @property
    def sos_id(self) -> int:
        """The id that begins a sentence, of a tokenizer that has one."""
        return self.before[0]

    @property
    def eos_id(self) -> int:
        """The id that ends a sentence, of a tokenizer that has one."""
        return self.after[0]

    @classmethod
    def read(cls, file: Path, vocabulary: int) -> Tokenizer:
        """Read the file of any tokenizer, whose ids are below ``vocabulary``; what it puts around
        a sentence is what it was trained with."""
        core = _read(file)
        core.no_padding()
        core.no_truncation()
        framed = core.encode("a")
        inner = [place for place, special in enumerate(framed.special_tokens_mask) if not special]
        first = inner[0] if inner else len(framed.ids)
        last = inner[-1] + 1 if inner else len(framed.ids)
        before, after = tuple(framed.ids[:first]), tuple(framed.ids[last:])
        largest = max(core.get_vocab(with_added_tokens=True).values(), default=0)
        if max(largest, *framed.ids, 0) >= vocabulary:
            raise CheckpointError(
                f"{file} has ids up to {largest}, the token table has {vocabulary} rows; they do "
                "not belong together"
            )
        unknown = getattr(core.model, "unk_token", None)
        found = None if unknown is None else core.token_to_id(unknown)
        return cls(core, before, after, frozenset(() if found is None else (found,)))

    @classmethod
    def open(cls, checkpoint: Checkpoint) -> Tokenizer:
        """Read `tokenizer.json`, or build CLIP's encoder from `vocab.json` and `merges.txt`, or
        from CLIP's own words where a format leaves them out."""
        folder = checkpoint.folder
        file = folder / "tokenizer.json"
        own = not any((folder / name).is_file() for name in TOKENIZER_FILES)
        core = _read(file) if file.is_file() else _build(folder, own and checkpoint.clip_words)
        core.no_padding()
        core.no_truncation()
        # The post-processor knows the frame; old configurations have wrong ids in them
        # (transformers pull request 24773), so they come second.
        frame = core.encode("").ids
        if len(frame) == 2:
            sos_id, eos_id = frame
        elif not frame and checkpoint.text.eos_id != 2:
            sos_id, eos_id = checkpoint.text.sos_id, checkpoint.text.eos_id
        else:
            raise CheckpointError(
                f"{folder}: the tokenizer frames an empty sentence as {frame}; one id before and "
                "one after are needed"
            )
        limit = checkpoint.text.vocabulary
        if max(sos_id, eos_id) >= limit:
            raise CheckpointError(
                f"{folder}: tokenizer ids {sos_id} and {eos_id} reach beyond the text tower's "
                f"vocabulary of {limit}"
            )
        return cls(core, (sos_id,), (eos_id,))

    def tokenize(self, words: str) -> list[int]:
        """Return the ids of words, without the ids that begin and end a sentence.

        Raises `InputError` for bytes of an argument or a file name that are no UTF-8.
        """
        if any("\ud800" <= character <= "\udfff" for character in words):
            raise InputError(f"{words!r} is no UTF-8, so the model cannot read it; write it anew")
        return list(self._core.encode(words, add_special_tokens=False).ids)


def _read(file: Path) -> tokenizers.Tokenizer:
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except BaseException as error:
        raise _unreadable(f"{file} is", error) from error


def clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return ids by token, and merges in their order, of the encoder of OpenAI's CLIP: a letter for
    each byte, each of them at the end of a word, the merges, and the frame."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in shown]  # written as later letters
    letters = [*map(chr, shown), *(chr(256 + i) for i in range(len(others)))]
    file = files("sharpzo") / "assets" / "clip" / "merges.txt.gz"
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    merges = [(line.split(" ")[0], line.split(" ")[1]) for line in lines]
    pieces = [*letters, *(f"{one}</w>" for one in letters), *("".join(m) for m in merges)]
    return {piece: i for i, piece in enumerate([*pieces, _SOS, _EOS])}, merges


def _build(folder: Path, own: bool) -> tokenizers.Tokenizer:
    """Return the encoder that transformers' `CLIPTokenizer` builds from the same two files, or from
    CLIP's ``own`` words."""
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import BPE

    how: dict[str, Any] = {
        "continuing_subword_prefix": "", "end_of_word_suffix": "</w>", "fuse_unk": False,
        "unk_token": _EOS,
    }  # fmt: skip
    for name in ("vocab.json", "merges.txt"):
        if not own and not (folder / name).is_file():
            raise CheckpointError(
                f"{folder} holds neither tokenizer.json nor {name}; the tokenizer is needed to "
                "turn class names into tokens"
            )
    try:
        if own:
            model = BPE(*clip_vocabulary(), **how)
        else:
            paths = str(folder / "vocab.json"), str(folder / "merges.txt")
            model = BPE.from_file(*paths, **how)
    except BaseException as error:
        raise _unreadable(f"{folder}: vocab.json and merges.txt are", error) from error
    core = Tokenizer(model)
    sos_id, eos_id = core.token_to_id(_SOS), core.token_to_id(_EOS)
    if sos_id is None or eos_id is None:
        raise CheckpointError(f"{folder / 'vocab.json'} holds no {_SOS} or no {_EOS}")
    core.add_special_tokens([_SOS, _EOS])
    core.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.post_processor = processors.RobertaProcessing((_EOS, eos_id), (_SOS, sos_id), False, False)
    return core


def _unreadable(what: str, error: BaseException) -> BaseException:
    """What to raise: the Rust side raises bare Exceptions, and panics that are not even those."""
    if isinstance(error, Exception) or type(error).__name__ == "PanicException":
        return CheckpointError(f"{what} not readable: {error}")
    return error
