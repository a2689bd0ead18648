"""The tokenizer against transformers' `CLIPTokenizer`."""

from __future__ import annotations

import dataclasses
import json
import shutil

import msgspec
import pytest

from sharpzo.errors import CheckpointError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.tokenizer import Tokenizer

WORDS = [
    "a photo of the cat.",
    "The CAT'S dog",
    "don't, they'll've",
    "route 66 in 2026",
    "naïve café",
    "cafe\u0301",
    "line\nbreak\tand  spaces",
    "日本語 ß Σ",
    "",
    "  ",
    "🙂!?",
    "<|endoftext|> x",
    "cat_dog",
    "photo-of/the:dog",
    "½ ² Ⅷ",
]


@pytest.mark.parametrize("words", WORDS)
def test_vocabulary_files_equal_transformers(models, words):
    from transformers import CLIPTokenizer

    folder = models["clip-quick"][0]
    theirs = CLIPTokenizer.from_pretrained(folder)
    ours = Tokenizer.open(Checkpoint.open(folder))
    assert ours.tokenize(words) == theirs(words, add_special_tokens=False)["input_ids"]
    framed = theirs(words)["input_ids"]
    assert (ours.sos_id, ours.eos_id) == (framed[0], framed[-1])


@pytest.mark.parametrize("words", WORDS)
def test_tokenizer_json_equals_vocabulary_files(models, tmp_path, words):
    from transformers import CLIPTokenizer

    folder = models["clip-quick"][0]
    CLIPTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
    checkpoint = Checkpoint.open(folder)
    ours = Tokenizer.open(checkpoint)
    theirs = Tokenizer.open(dataclasses.replace(checkpoint, folder=tmp_path))
    assert ours.tokenize(words) == theirs.tokenize(words)
    assert (ours.sos_id, ours.eos_id) == (theirs.sos_id, theirs.eos_id)


def test_golden(models):
    tokenizer = Tokenizer.open(Checkpoint.open(models["clip-quick"][0]))
    pieces = [
        tokenizer._core.id_to_token(i) for i in tokenizer.tokenize("The photo of catdog's 42!")
    ]
    wanted = "the</w> photo</w> of</w> ca t dog</w> ' s</w> 4</w> 2</w> !</w>"
    assert " ".join(pieces) == wanted


def test_embedded_tokenizer_equals_transformers(embedded):
    from transformers import AutoTokenizer

    folder, _ = embedded
    theirs = AutoTokenizer.from_pretrained(folder)
    ours = Tokenizer.open(Checkpoint.open(folder))
    for words in ("a photo of a highway or road.", "tench", "Café au lait 42", "it's\nnew"):
        assert ours.tokenize(words) == theirs(words, add_special_tokens=False)["input_ids"]


def test_missing_and_damaged_files(models, tmp_path):
    checkpoint = Checkpoint.open(models["clip-quick"][0])
    bare = dataclasses.replace(checkpoint, folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"neither tokenizer.json nor vocab.json"):
        Tokenizer.open(bare)
    shutil.copy(checkpoint.folder / "vocab.json", tmp_path)
    with pytest.raises(CheckpointError, match=r"nor merges.txt"):
        Tokenizer.open(bare)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer.json is not readable"):
        Tokenizer.open(bare)


def test_vocabulary_larger_than_the_tower(models):
    checkpoint = Checkpoint.open(models["clip-quick"][0])
    text = msgspec.structs.replace(checkpoint.text, vocabulary=100)
    with pytest.raises(CheckpointError, match="vocabulary of 100"):
        Tokenizer.open(dataclasses.replace(checkpoint, text=text))


def test_vocabulary_without_frame(models, tmp_path):
    folder = models["clip-quick"][0]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0}))
    checkpoint = dataclasses.replace(Checkpoint.open(folder), folder=tmp_path)
    with pytest.raises(CheckpointError, match="startoftext"):
        Tokenizer.open(checkpoint)
    shutil.copy(folder / "merges.txt", tmp_path)
    with pytest.raises(CheckpointError, match=r"vocab.json and merges.txt are not readable"):
        Tokenizer.open(checkpoint)
