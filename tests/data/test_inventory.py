from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from sharpzo.cli import main
from sharpzo.data import layouts
from sharpzo.data.inventory import DrawCount, Missing, SplitCount, check
from sharpzo.errors import InputError

from .test_coop_layout import SIZES, coop_draw, split_rows
from .test_layouts import FLIGHTS, VARIANTS, imagenet, subset
from .trees import coop_tree, fgvc_tree

PLACE = "eurosat/2750"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch):
    """Make the small trees the published data sets."""

    def pretend(name: str, classes: int, **sizes: int) -> None:
        small = msgspec.structs.replace(layouts.LAYOUTS[name], classes=classes, published=sizes)
        monkeypatch.setattr(layouts, "LAYOUTS", {**layouts.LAYOUTS, name: small})

    return pretend


@pytest.fixture
def eurosat(tmp_path: Path, published) -> tuple[Path, dict[str, list[list]]]:
    published("eurosat", 5, val=sum(SIZES["val"]), test=sum(SIZES["test"]))
    rows = split_rows(SIZES)
    return coop_tree(tmp_path, rows), rows


def test_complete(eurosat):
    root, _ = eurosat
    for place in (root, root / "eurosat"):
        out = check(place, "eurosat")
        assert (out.state, out.classes, out.missing, out.notes) == ("complete", 5, (), ())
        assert out.folder == str(root / "eurosat")
        assert out.splits == {
            "train": SplitCount(58, 58, None),
            "val": SplitCount(21, 21, 21),
            "test": SplitCount(13, 13, 13),
        }
        assert out.draws == tuple(
            DrawCount(k, seed, 0) for k in (1, 2, 4, 8, 16) for seed in (1, 2, 3)
        )


def test_half_a_data_set_with_its_draws(eurosat):
    root, rows = eurosat
    few = {name for seed in (1, 2, 3) for name in coop_draw(rows, 2, seed)["train"]}
    many = set(coop_draw(rows, 16, 1)["train"]) - few
    order = [row[0] for row in rows["train"]]
    gone = [*sorted(many, key=order.index)[:20], rows["val"][2][0], rows["test"][0][0]]
    for relative in gone:
        (root / PLACE / relative).unlink()
    out = check(root, "eurosat")
    assert out.state == "partial"
    assert out.splits["train"] == SplitCount(58, 38, None)
    assert out.splits["val"] == SplitCount(21, 20, 21)
    assert out.splits["test"] == SplitCount(13, 12, 13)
    first = tuple(f"2750/{relative}" for relative in gone[:5])
    assert out.missing == (Missing("photos", 22, first),)
    for one in out.draws:
        drawn = coop_draw(rows, one.shots, one.seed)
        assert one.missing == len(set(gone) & {*drawn["train"], *drawn["val"]})
    assert {one.missing == 0 for one in out.draws} == {True, False}


def test_only_undrawn_photos_missing(eurosat):
    root, rows = eurosat
    drawn = {
        name
        for seed in (1, 2, 3)
        for k in (1, 2, 4, 8, 16)
        for names in coop_draw(rows, k, seed).values()
        for name in names
    }
    undrawn = {row[0] for row in rows["train"]} - drawn
    assert undrawn
    for relative in undrawn:
        (root / PLACE / relative).unlink()
    out = check(root, "eurosat")
    assert out.missing[0].count == len(undrawn)
    assert all(one.missing == 0 for one in out.draws)


def test_another_split_file_is_told_from_the_published(tmp_path: Path):
    coop_tree(tmp_path, split_rows(SIZES))
    out = check(tmp_path, "eurosat")
    assert out.state == "partial"
    assert out.notes == (
        "there are 5 classes, the published data set has 10",
        "there are 21 val photos, the published data set has 5,400",
        "there are 13 test photos, the published data set has 8,100",
    )


def test_missing_files_and_folders(eurosat):
    root, _ = eurosat
    (root / "eurosat" / "split_zhou_EuroSAT.json").unlink()
    out = check(root, "eurosat")
    assert (out.state, out.classes, out.splits, out.draws) == ("unusable", None, {}, ())
    assert out.missing == (Missing("files", 1, ("split_zhou_EuroSAT.json",)),)
    out = check(root, "pets")
    assert (out.dataset, out.folder) == ("oxford_pets", str(root / "oxford_pets"))
    assert out.missing == (
        Missing("files", 1, ("split_zhou_OxfordPets.json",)),
        Missing("folders", 1, ("images",)),
    )


def test_split_file_without_a_photo_is_unusable(tmp_path: Path):
    coop_tree(tmp_path, split_rows(SIZES), images=False)
    out = check(tmp_path, "eurosat")
    assert out.state == "unusable"
    assert out.missing[0].count == 92
    assert all(one.missing > 0 for one in out.draws)


def test_bad_input(eurosat):
    root, _ = eurosat
    with pytest.raises(InputError, match=r"'venus' is unknown; the known ones: imagenet, .*-r"):
        check(root, "venus")
    with pytest.raises(InputError, match="nowhere does not exist; check the path"):
        check(root / "nowhere", "eurosat")
    (root / "eurosat" / "split_zhou_EuroSAT.json").write_text("{")
    with pytest.raises(InputError, match=r"split_zhou_EuroSAT\.json cannot be used"):
        check(root, "eurosat")


def test_fgvc_aircraft(tmp_path: Path, published):
    published("fgvc_aircraft", 3, val=7, test=1)
    fgvc_tree(tmp_path, VARIANTS, FLIGHTS)
    assert check(tmp_path, "fgvc").state == "complete"
    (tmp_path / "fgvc_aircraft" / "images" / "0300000.jpg").unlink()
    out = check(tmp_path, "fgvc")
    assert out.missing == (Missing("photos", 1, ("images/0300000.jpg",)),)


def test_imagenet(tmp_path: Path, published):
    published("imagenet", 3, train=90, test=6)
    folder = imagenet(tmp_path) / "imagenet"
    out = check(tmp_path, "imagenet")
    assert (out.state, out.notes, len(out.draws)) == ("complete", (), 15)
    assert out.splits == {"train": SplitCount(90, 90, 90), "test": SplitCount(6, 6, 6)}
    (folder / "images" / "train" / "n01000000" / "3.JPEG").unlink()
    for photo in (folder / "images" / "val" / "n02000000").iterdir():
        photo.unlink()
    out = check(tmp_path, "imagenet")
    assert (out.state, out.draws) == ("partial", ())
    assert out.missing == (Missing("class folders", 1, ("images/val/n02000000",)),)
    assert out.notes == (
        "there are 89 train photos, the published data set has 90",
        "there are 4 test photos, the published data set has 6",
        "no draws: from a part of the training photos they would be other ones",
    )
    (folder / "images" / "train").rename(folder / "elsewhere")
    out = check(tmp_path, "imagenet")
    assert out.missing[0] == Missing("folders", 1, ("images/train",))
    assert out.splits["train"] == SplitCount(0, 0, 90)
    assert out.missing[1].first == ("images/val/n02000000",)  # none below images/train


def test_half_of_a_subset(tmp_path: Path):
    subset(tmp_path, "imagenet-r", 120)
    out = check(tmp_path, "imagenet-r")
    assert (out.state, out.classes, out.draws) == ("partial", 120, ())
    assert out.missing == (Missing("class folders", 80, ("imagenet-r/n????????",) * 5),)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["data", "check", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_command_line(eurosat, capsys: pytest.CaptureFixture[str]):
    root, rows = eurosat
    code, out, err = run(capsys, "eurosat", root)
    assert (code, err) == (0, "")
    assert f"EuroSAT in {root / 'eurosat'}: complete, 5 classes" in out
    assert "15 of 15 draws complete" in out
    assert "missing" not in out
    assert "https://github.com/phelber/EuroSAT" in out
    assert "KaiyangZhou/CoOp" in out
    drawn = coop_draw(rows, 1, 1)["train"][0]
    (root / PLACE / drawn).unlink()
    code, out, err = run(capsys, "eurosat", root)
    assert (code, err) == (1, "")
    assert f"missing photos (1): 2750/{drawn}\n" in out
    assert "1 shots, seed 1 lacks 1 photos" in out
    code, out, err = run(capsys, "eurosat", root, "--json")
    document = json.loads(out)
    assert (code, err, document["state"]) == (1, "", "partial")
    assert document["splits"]["train"] == {"listed": 58, "found": 57, "published": None}
    assert document["draws"][0] == {"shots": 1, "seed": 1, "missing": 1}
    code, out, _ = run(capsys, "dtd", root)
    assert code == 2
    assert "missing folders (1): images" in out
    code, out, err = run(capsys, "venus", root)
    assert (code, out) == (2, "")
    assert err.startswith("sharpzo: data set 'venus' is unknown; the known ones: imagenet, ")
    assert len(err.splitlines()) == 1
