from __future__ import annotations

import json
from pathlib import Path

import pytest

from sharpzo.data.label_file import read_labels
from sharpzo.data.loading import load, read
from sharpzo.errors import InputError

from .trees import photo, tree


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    for name in ("1.png", "2.png", "in/3.png", "in/ä, [b].png"):
        photo(tmp_path / "data" / name)
    return tmp_path / "data"


def labels(root: Path, text: str, name: str = "labels.csv", encoding: str = "utf-8") -> Path:
    file = root.parent / name
    file.write_bytes(text.encode(encoding))
    return file


def rows(split) -> list[tuple[str, str]]:
    return [
        (photo.path.name, split.class_names[label])
        for photo, label in zip(split.photos, split.labels, strict=True)
    ]


WHOLE = [("2.png", "big cat"), ("1.png", "dog"), ("3.png", "dog"), ("ä, [b].png", "dog")]


@pytest.mark.parametrize(
    "text",
    [
        'path,label\n2.png,big_cat\n1.png,dog\nin/3.png,dog\n"in/ä, [b].png",dog\n',
        'Label , Path\ndog,1.png\n big cat ,2.png\ndog,in/3.png\ndog,"in/ä, [b].png"\n',
        "file_name;class\n1.png;dog\n2.png;big_cat\nin\\3.png;dog\n./in/ä, [b].png;dog\n",
        "image\tcategory\tnote\r\n1.png\tdog\tx\r\n2.png\tbig_cat\t\r\nin/3.png\tdog\t\r\n"
        "in/ä, [b].png\tdog\t\r\n",
    ],
    ids=["commas", "spaces", "semicolons-windows-paths", "tabs"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv(flat: Path, text: str, encoding: str):
    out = read_labels(flat, labels(flat, text, encoding=encoding))
    assert rows(out.train) == WHOLE
    assert (out.val, out.test, out.skipped) == (None, None, ())
    assert out.source.endswith("labels.csv")


def test_splits_absolute_paths_and_photos_that_are_not_named(flat: Path):
    file = labels(
        flat, f"path,label,split\n1.png,a,train\n2.png,b,Training\n{flat}/in/3.png,a,test\n"
    )
    out = load(flat, labels=file)
    assert rows(out.train) == [("1.png", "a"), ("2.png", "b")]
    assert rows(out.test) == [("3.png", "a")]
    assert out.notes[0].startswith("1 file or folder was left out: in/ä, [b].png (not named in ")


def test_a_label_file_may_lie_in_the_folder(flat: Path):
    (flat / "mine.csv").write_text("path,label\n1.png,a\n2.png,b\n")
    assert len(read(flat, labels="mine.csv").train) == 2


def test_json_lines(flat: Path):
    text = '{"file_name": "1.png", "label": 0}\n\n{"file_name": "2.png", "label": 1}\n'
    out = read_labels(flat, labels(flat, text, "labels.jsonl"))
    assert out.class_names == ("0", "1")
    assert "the labels are numbers" in out.notes[0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "names no photo; give a CSV file with the columns path and label"),
        ("path,label\n", "names no photo"),
        ("a,b\n1.png,x\n", r"no column for the path \(it has a, b\)"),
        ("path,colour\n1.png,x\n", "no column for the label"),
        ("1.png,dog\n2.png,cat\n", "no column for the path"),
        ("path,label\n1.png,x\n2.png\n", "line 3 has another number of cells"),
        ("path,label\n1.png,x\nin/ä, [b].png,y\n", "line 3 has another number of cells"),
        ("path,label\n1.png,\n", "line 2 has '' as label"),
        ("path,label\n ,x\n", "line 2 has ' ' as path"),
        ('path,label\n"1.png,x\n', "is no CSV after line 1"),
        (
            "path,label\n1.png,x\n9.png,y\n8.png,y\n",
            "2 of 3 photos named .*: 9.png, 8.png; give",
        ),
        ("path,label\nin,x\n2.png,y\n", "1 of 2 photos named in .* do not exist: in"),
        ("path,label\n1.png,x\n2.png,y\n./1.png,y\n", "line 4 says that ./1.png is 'y'.* 'x'"),
        ("path,label\n1.png,x\n2.png,x\n", "only one class for training, 'x'"),
        ("path,label,split\n1.png,x,a\n", "has the split 'a'; give train, val or test"),
        ("path,label,split\n1.png,x,train\n2.png,y,train\nin/3.png,z,test\n", "'z' in split test"),
        ("path,label\n1.png,___\n2.png,y\n", "no name that the model could read"),
    ],
)
def test_bad_csv_is_one_sentence(flat: Path, text: str, sentence: str):
    with pytest.raises(InputError, match=sentence) as error:
        read_labels(flat, labels(flat, text))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "line",
    ["[]", "null", "3", "{", "[" * 100_000, '{"file_name": [1], "label": "a"}',
     '{"file_name": "1.png", "label": null}', '{"file_name": "1.png", "label": true}',
     '{"file_name": "1.png", "label": NaN}', '{"file_name": "1.png\\u0000", "label": "x"}',
     '{"file_name": "1.png", "label": "\\ud800"}'],
    ids=lambda line: line[:40],
)  # fmt: skip
def test_bad_json_lines_are_one_sentence(flat: Path, line: str):
    text = f'{{"file_name": "2.png", "label": "a"}}\n{line}\n'
    with pytest.raises(InputError, match="line 2"):
        read_labels(flat, labels(flat, text, "labels.jsonl"))


def test_files_that_are_no_text(flat: Path):
    file = flat.parent / "labels.csv"
    for content, sentence in (
        (b"path,label\n1.png,x\n2.png,caf\xe9\n", r"not UTF-8 text \(line 3\)"),
        (b"\xff\xfep", "not UTF-8 text"),
        (b"path,label\n1.png,x\0\n", "line 2"),
    ):
        file.write_bytes(content)
        with pytest.raises(InputError, match=sentence):
            read_labels(flat, file)
    with pytest.raises(InputError, match=r"cannot be read .*check the path"):
        read_labels(flat, flat.parent / "none.csv")
    with pytest.raises(InputError, match="nowhere does not exist"):
        read_labels(flat.parent / "nowhere", file)
    with pytest.raises(InputError, match="has labels of its own"):
        read(flat, "eurosat", labels=file)


def test_a_device_without_an_end_is_refused(flat: Path, monkeypatch):
    monkeypatch.setattr("sharpzo.data.label_file.LARGEST", 1 << 20)
    (flat / "zero.csv").symlink_to("/dev/zero")  # its size is 0, as that of a pipe
    with pytest.raises(InputError, match="larger than 1 MiB"):
        read(flat, labels=flat / "zero.csv")


def test_a_line_again_is_told(flat: Path):
    out = read_labels(flat, labels(flat, "path,label\n1.png,x\n2.png,y\nin/../1.png,x\n"))
    assert len(out.train) == 2
    assert "1 line names a photo again" in out.notes[0]


def metadata(folder: Path, **named: str) -> None:
    lines = [{"file_name": name, "label": label} for name, label in named.items()]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))


def test_hugging_face_metadata_of_a_whole_folder(flat: Path):
    metadata(flat, **{"1.png": "a", "2.png": "b", "in/3.png": "a", "in/ä, [b].png": "b"})
    assert load(flat).train.counts().tolist() == [1, 1]
    assert read(flat).train.counts().tolist() == [2, 2]
    (flat / "metadata.csv").write_text("file_name,label\n1.png,a\n")
    with pytest.raises(InputError, match=r"both metadata.csv and metadata.jsonl; remove one"):
        read(flat)


def test_hugging_face_metadata_of_splits(tmp_path: Path):
    for name in ("train/1.png", "train/2.png", "test/1.png"):
        photo(tmp_path / name)
    (tmp_path / "train" / "metadata.csv").write_text("file_name,label\n1.png,a\n2.png,b\n")
    metadata(tmp_path / "test", **{"1.png": "b"})
    out = read(tmp_path)
    assert (rows(out.train), rows(out.test)) == ([("1.png", "a"), ("2.png", "b")], [("1.png", "b")])
    for folder in ("train", "test"):
        next((tmp_path / folder).glob("metadata.*")).unlink()
    metadata(tmp_path, **{"train/1.png": "a", "train/2.png": "b", "test/1.png": "a"})
    out = read(tmp_path)
    assert (len(out.train), rows(out.test)) == (2, [("1.png", "a")])


@pytest.mark.parametrize("path", ["../1.png", "/etc/passwd", "in/../../x.png"])
def test_metadata_stays_in_its_folder(flat: Path, path: str):
    photo(flat.parent / "1.png")
    metadata(flat, **{"1.png": "a", path: "b"})
    with pytest.raises(InputError, match=r"line 2: path .* points out of"):
        read(flat)


@pytest.mark.parametrize("content", ["file_name,text\n0.png,hello\n", "x", "", "\xff", "[1"])
def test_metadata_without_labels_leaves_the_folders_alone(tmp_path: Path, content: str):
    tree(tmp_path, cat=1, dog=1)
    for name in ("metadata.csv", "metadata.jsonl"):
        (tmp_path / name).write_bytes(content.encode("latin-1"))
    assert read(tmp_path).class_names == ("cat", "dog")


def test_labels_for_testing_only(flat: Path):
    out = read(flat, labels=labels(flat, "path,label,split\n1.png,x,test\n2.png,y,test\n"))
    assert (len(out.train), len(out.test), out.class_names) == (0, 2, ("x", "y"))
