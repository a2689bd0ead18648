"""Words to token ids, exactly as the checkpoint was trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sharpzo.errors import CheckpointError, InputError
from sharpzo.towers.checkpoint import Checkpoint

if TYPE_CHECKING:
    import tokenizers

# CLIP's own pattern: contractions, runs of letters, single digits, runs of anything else.
_PATTERN = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
_SOS, _EOS = "<|startoftext|>", "<|endoftext|>"


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
        elif not frame and not checkpoint.text.legacy_pooling:
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

    def text(self, token: int) -> str:
        """Return the text of one id, for messages."""
        return str(self._core.id_to_token(token))


def _read(folder: Path) -> tokenizers.Tokenizer:
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the Rust side raises bare Exception
        raise CheckpointError(f"{folder / 'tokenizer.json'} is not readable: {error}") from error


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
    except Exception as error:  # the Rust side raises bare Exception
        raise CheckpointError(
            f"{folder}: vocab.json and merges.txt are not readable: {error}"
        ) from error
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
