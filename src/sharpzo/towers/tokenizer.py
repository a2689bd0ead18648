"""Words to token ids, as a checkpoint was trained, and what frames a sentence."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpzo.errors import CheckpointError, InputError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.contents import TOKENIZER_FILES

if TYPE_CHECKING:
    import tokenizers

# CLIP's own pattern: contractions, runs of letters, single digits, runs of anything else.
_PATTERN = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
_SOS, _EOS = "<|startoftext|>", "<|endoftext|>"


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
        self.clean: Callable[[str], str] = str  # what is done to words before
        self.pad: int | None = None  # what fills sentences up

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
        pad = (core.padding or {}).get("pad_id")
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
        made = cls(core, before, after, frozenset(() if found is None else (found,)))
        made.pad = pad
        return made

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

    def id_of(self, token: str) -> int | None:
        """Return the id of a token; None if it is none of the vocabulary."""
        return self._core.token_to_id(token)

    def tokenize(self, words: str) -> list[int]:
        """Return the ids of words, without the ids that begin and end a sentence.

        Raises `InputError` for bytes of an argument or a file name that are no UTF-8.
        """
        if any("\ud800" <= character <= "\udfff" for character in words):
            raise InputError(f"{words!r} is no UTF-8, so the model cannot read it; write it anew")
        return list(self._core.encode(self.clean(words), add_special_tokens=False).ids)


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
