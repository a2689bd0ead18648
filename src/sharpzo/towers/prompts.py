"""Token sequences of class names in a template; they share their beginning.

A prompt is [SOS] [context: n vectors] [class name and the rest of the template] [EOS]. The context
is what searches move; everything after it is fixed and differs from class to class. Words become
token ids as the checkpoint was trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sharpzo.errors import CheckpointError, InputError
from sharpzo.towers.checkpoint import Checkpoint
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

    ``prefix`` holds the template's words before the class name; ``suffixes`` one sequence per
    class: the class name, the rest of the template and EOS. ``n_context`` vectors stand between SOS
    and suffix; by default ``len(prefix)``. They are the same for all classes, or with
    ``specific`` each class has its own, one class after the other.
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
    names = tuple(str(name) for name in class_names)
    _check(checkpoint, names, suffixes, n)
    for suffix in suffixes:
        ids = [tokenizer.sos_id, *prefix, *suffix]
        position = pool_position(ids, checkpoint.text.eos_id)
        if position != len(ids) - 1:
            raise CheckpointError(
                f"the text tower (eos_token_id {checkpoint.text.eos_id}) takes its feature at "
                f"token {position} of {ids}, not at EOS; set eos_token_id in config.json to "
                f"{ids[-1]}"
            )
    return Prompts(
        names, template, tokenizer.sos_id, tokenizer.eos_id, tuple(prefix), tuple(suffixes), n,
        specific,
    )  # fmt: skip


def start(checkpoint: Checkpoint, prompts: Prompts) -> Array:
    """Return the context that a search starts from, float32 (n, m), or (K * n, m) if specific.

    The embeddings of the template's words before the class name. If another number of vectors is
    wanted, the words next to the class name are kept and missing vectors on the left are the mean
    of the token table: the average token.
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
    if not suffix or tokenizer.eos_id in suffix or tokenizer.sos_id in suffix:
        raise InputError(f"class name {name!r} has characters that the tokenizer does not know")
    return (*suffix, tokenizer.eos_id)


def _check(
    checkpoint: Checkpoint, names: Sequence[str], suffixes: Sequence[tuple[int, ...]], n: int
) -> None:
    limit, seen = checkpoint.text.context_length, dict[tuple[int, ...], str]()
    for name, suffix in zip(names, suffixes, strict=True):
        if 1 + n + len(suffix) > limit:
            raise InputError(
                f"class name {name!r} takes {len(suffix) - 1} tokens with the rest of the "
                f"template; with {n} context tokens and 2 that frame the prompt the text tower "
                f"holds {limit}, so at most {max(limit - n - 2, 0)} are left: shorten the name or "
                "the template"
            )
        if suffix in seen:
            raise InputError(
                f"class names {seen[suffix]!r} and {name!r} are the same words to the text tower; "
                "rename or join them"
            )
        seen[suffix] = name


class Tokenizer:
    """A lower-case byte-pair encoder with the ids that begin and end a sentence.

    ``tokenize`` returns ids without special tokens; ``sos_id`` and ``eos_id`` frame a sentence.
    """

    def __init__(self, core: tokenizers.Tokenizer, sos_id: int, eos_id: int) -> None:
        self._core = core
        self.sos_id = sos_id
        self.eos_id = eos_id

    @classmethod
    def open(cls, checkpoint: Checkpoint) -> Tokenizer:
        """Read `tokenizer.json`, or build CLIP's encoder from `vocab.json` and `merges.txt`."""
        folder = checkpoint.folder
        core = _read(folder) if (folder / "tokenizer.json").is_file() else _build(folder)
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
        return cls(core, sos_id, eos_id)

    def tokenize(self, words: str) -> list[int]:
        """Return the ids of words, without the ids that begin and end a sentence.

        Raises `InputError` for bytes of an argument or a file name that are no UTF-8.
        """
        if any("\ud800" <= character <= "\udfff" for character in words):
            raise InputError(f"{words!r} is no UTF-8, so the model cannot read it; write it anew")
        return list(self._core.encode(words, add_special_tokens=False).ids)


def _read(folder: Path) -> tokenizers.Tokenizer:
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    except BaseException as error:
        raise _unreadable(f"{folder / 'tokenizer.json'} is", error) from error


def _build(folder: Path) -> tokenizers.Tokenizer:
    """Return the encoder that transformers' `CLIPTokenizer` builds from the same two files."""
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import BPE

    for name in ("vocab.json", "merges.txt"):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder} holds neither tokenizer.json nor {name}; the tokenizer is needed to "
                "turn class names into tokens"
            )
    try:
        model = BPE.from_file(
            str(folder / "vocab.json"),
            str(folder / "merges.txt"),
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
            unk_token=_EOS,
        )
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
