"""Each data set on a tree of its exact layout; paths, names and templates as literals."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpzo.data.coop_layout import read_coop
from sharpzo.data.few_shot import draw
from sharpzo.data.layouts import ALIASES, IMAGENET_TEMPLATES, LAYOUTS, layout
from sharpzo.data.loading import read
from sharpzo.errors import InputError

from .test_coop_layout import coop_draw
from .trees import coop_tree, fgvc_tree, names, synset_tree

PLAIN = "a photo of a {}."
# name: split file, folder that its paths start from, two photos with their class names, template
SPLIT_FILES = {
    "caltech101": (
        "caltech-101/split_zhou_Caltech101.json", "caltech-101/101_ObjectCategories",
        ("Faces/image_0001.jpg", "face", "face"),
        ("windsor_chair/image_0002.jpg", "windsor_chair", "windsor chair"), PLAIN,
    ),
    "oxford_pets": (
        "oxford_pets/split_zhou_OxfordPets.json", "oxford_pets/images",
        ("Abyssinian_1.jpg", "abyssinian", "abyssinian"),
        ("american_bulldog_2.jpg", "american_bulldog", "american bulldog"),
        "a photo of a {}, a type of pet.",
    ),
    "stanford_cars": (
        "stanford_cars/split_zhou_StanfordCars.json", "stanford_cars",
        ("cars_train/00001.jpg", "2012 Audi S5 Coupe", "2012 Audi S5 Coupe"),
        ("cars_test/00002.jpg", "2000 AM General Hummer SUV", "2000 AM General Hummer SUV"), PLAIN,
    ),
    "oxford_flowers": (
        "oxford_flowers/split_zhou_OxfordFlowers.json", "oxford_flowers/jpg",
        ("image_00001.jpg", "pink primrose", "pink primrose"),
        ("image_00002.jpg", "canterbury bells", "canterbury bells"),
        "a photo of a {}, a type of flower.",
    ),
    "food101": (
        "food-101/split_zhou_Food101.json", "food-101/images",
        ("apple_pie/1.jpg", "apple_pie", "apple pie"), ("waffles/2.jpg", "waffles", "waffles"),
        "a photo of {}, a type of food.",
    ),
    "sun397": (
        "sun397/split_zhou_SUN397.json", "sun397/SUN397",
        ("a/abbey/sun_a.jpg", "abbey", "abbey"),
        ("c/cafeteria/indoor/sun_b.jpg", "indoor cafeteria", "indoor cafeteria"), PLAIN,
    ),
    "dtd": (
        "dtd/split_zhou_DescribableTextures.json", "dtd/images",
        ("banded/banded_0002.jpg", "banded", "banded"),
        ("polka-dotted/polka-dotted_0001.jpg", "polka-dotted", "polka-dotted"), "{} texture.",
    ),
    "eurosat": (
        "eurosat/split_zhou_EuroSAT.json", "eurosat/2750",
        ("AnnualCrop/AnnualCrop_1.jpg", "Annual Crop Land", "Annual Crop Land"),
        ("SeaLake/SeaLake_2.jpg", "Sea or Lake", "Sea or Lake"),
        "a centered satellite photo of {}.",
    ),
    "ucf101": (
        "ucf101/split_zhou_UCF101.json", "ucf101/UCF-101-midframes",
        ("Apply_Eye_Makeup/v_ApplyEyeMakeup_g08_c01.jpg", "Apply_Eye_Makeup", "Apply Eye Makeup"),
        ("Yo_Yo/v_YoYo_g01_c01.jpg", "Yo_Yo", "Yo Yo"), "a photo of a person doing {}.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SPLIT_FILES))
def test_split_files(tmp_path: Path, name: str):
    split, base, first, second, template = SPLIT_FILES[name]
    rows = {
        "train": [[second[0], 1, second[1]], [first[0], 0, first[1]]],
        "val": [[first[0], 0, first[1]]],
        "test": [[second[0], 1, second[1]]],
    }
    coop_tree(tmp_path, rows, split=split, base=base)
    if name == "stanford_cars":
        assert (tmp_path / base / "cars_train").is_dir()
    for root in (tmp_path, tmp_path / Path(split).parent):
        out = read_coop(root, name)
        assert out.class_names == (first[2], second[2])
        assert out.template == template
        assert names(out.train) == [str(tmp_path / base / p) for p in (second[0], first[0])]
        assert out.train.labels.tolist() == [1, 0]
        assert names(out.val) == [str(tmp_path / base / first[0])]
        assert names(out.test) == [str(tmp_path / base / second[0])]
        assert next(out.train.decoded()).shape == (6, 8, 3)
        with pytest.raises(InputError, match=f"add --dataset {name} "):
            read(root)
    (tmp_path / split).unlink()
    with pytest.raises(InputError, match=f"neither .* holds {Path(split).name}; give the folder"):
        read_coop(tmp_path, name)


VARIANTS = ["F-16A/B", "707-320", "Cessna 172"]
FLIGHTS = {
    "train": [(f"01{i:05}", VARIANTS[(i * 5 + 1) % 3]) for i in range(12)],
    "val": [(f"02{i:05}", VARIANTS[i % 3]) for i in range(7)],
    "test": [("0300000", "Cessna 172")],
}


def test_fgvc_aircraft(tmp_path: Path):
    fgvc_tree(tmp_path, VARIANTS, FLIGHTS)
    images = tmp_path / "fgvc_aircraft" / "images"
    out = read_coop(tmp_path, "fgvc_aircraft")
    assert out.class_names == tuple(VARIANTS)
    assert out.template == "a photo of a {}, a type of aircraft."
    assert names(out.test) == [str(images / "0300000.jpg")]
    assert out.test is not None
    assert out.test.labels.tolist() == [2]
    assert next(out.test.decoded()).shape == (6, 8, 3)
    rows = {
        split: [[f"{number}.jpg", VARIANTS.index(name), name] for number, name in photos]
        for split, photos in FLIGHTS.items()
    }
    few, wanted = draw(out, 2, 3), coop_draw(rows, 2, 3)
    assert names(few.train) == [str(images / p) for p in wanted["train"]]
    assert names(few.val) == [str(images / p) for p in wanted["val"]]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("images_variant_val.txt", None, r"images_variant_val\.txt does not exist; put the arch"),
        ("images_variant_val.txt", "1 Concorde\n", "no variant 'Concorde'.*2013b archive again"),
        ("images_variant_val.txt", "../1 707-320\n", "points out of the image folder"),
        ("variants.txt", "", r"variants\.txt cannot be used .*it is empty"),
    ],
)
def test_damaged_fgvc_aircraft(tmp_path: Path, file: str, content: str | None, message: str):
    fgvc_tree(tmp_path, VARIANTS, FLIGHTS)
    path = tmp_path / "fgvc_aircraft" / file
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_coop(tmp_path, "fgvc_aircraft")


# Not in the order of the synsets, so that it matters which of the two a reader follows.
NAMES = {"n03000000": "a_b crane", "n01000000": "tench", "n02000000": "great white shark"}


def photos(count: int) -> list[str]:
    """Names as the file system may list them: not sorted, and some that are no photos."""
    return [f"{i}.JPEG" for i in reversed(range(count))] + [".DS_Store", "notes.txt"]


def imagenet(root: Path, count: int = 30) -> Path:
    images = {
        "images/train": {synset: photos(count) for synset in NAMES},
        "images/val": {synset: photos(2) for synset in NAMES},
    }
    return synset_tree(root, "imagenet", images, NAMES)


def test_imagenet(tmp_path: Path):
    imagenet(tmp_path)
    out = read_coop(tmp_path, "imagenet")
    assert out.class_names == ("tench", "great white shark", "a b crane")  # sorted by synset
    assert out.template == PLAIN
    assert out.val is None  # CoOp's is the test split
    assert out.test is not None
    assert out.test.counts().tolist() == [2, 2, 2]
    assert names(out.test)[:2] == [
        str(tmp_path / "imagenet" / "images" / "val" / "n01000000" / f"{i}.JPEG") for i in (0, 1)
    ]
    assert out.train.counts().tolist() == [30, 30, 30]
    assert len(IMAGENET_TEMPLATES) == len(set(IMAGENET_TEMPLATES)) == 7
    with pytest.raises(InputError, match="add --dataset imagenet "):
        read(tmp_path / "imagenet")


def test_imagenet_draws_are_those_of_coop_on_sorted_photos(tmp_path: Path):
    imagenet(tmp_path)
    train = tmp_path / "imagenet" / "images" / "train"
    listed = sorted(f"{i}.JPEG" for i in range(30))
    rows = {
        "train": [
            [str(train / synset / file), label, synset]
            for label, synset in enumerate(sorted(NAMES))
            for file in listed
        ],
        "val": [],
    }
    full = read_coop(tmp_path, "imagenet")
    for shots in (1, 4, 16):
        few = draw(full, shots, 2)
        assert names(few.train) == coop_draw(rows, shots, 2)["train"]
        assert few.val is not None  # carved from train
        assert few.val.counts().tolist() == [min(shots, 4)] * 3
        assert set(names(few.val)) <= set(names(full.train)) - set(names(few.train))


def test_imagenetv2_counts_its_folders_by_the_rows_of_classnames(tmp_path: Path):
    place = "imagenetv2-matched-frequency-format-val"
    synset_tree(tmp_path, "imagenetv2", {place: {str(i): photos(i + 1) for i in range(3)}}, NAMES)
    out = read_coop(tmp_path, "imagenetv2")
    assert out.class_names == ("a b crane", "tench", "great white shark")
    assert out.test is not None
    assert out.test.counts().tolist() == [1, 2, 3]
    (tmp_path / "imagenetv2" / place / "3").mkdir()
    with pytest.raises(InputError, match=r"'3', which classnames\.txt does not name"):
        read_coop(tmp_path, "imagenetv2")


def test_imagenet_sketch(tmp_path: Path):
    synset_tree(tmp_path, "imagenet-sketch", {"images": {s: photos(2) for s in NAMES}}, NAMES)
    out = read_coop(tmp_path, "imagenet-sketch")
    assert out.class_names == ("tench", "great white shark", "a b crane")
    assert out.test is not None
    assert out.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(InputError, match="add --dataset imagenet-sketch "):
        read(tmp_path)
    with pytest.raises(InputError, match="add --dataset imagenet-sketch "):
        read(tmp_path / "imagenet-sketch")


SUBSETS = {
    "imagenet-a": ("imagenet-adversarial", "imagenet-a"),
    "imagenet-r": ("imagenet-rendition", "imagenet-r"),
}
THOUSAND = {f"n{i:08}": f"class {i}" for i in range(1000)}


def subset(root: Path, name: str, count: int) -> Path:
    folder, place = SUBSETS[name]
    classes = {f"n{5 * i:08}": photos(1) for i in range(count)}
    synset_tree(root, folder, {place: classes}, THOUSAND)
    (root / folder / place / "README.txt").touch()
    return root / folder / place


@pytest.mark.parametrize("name", sorted(SUBSETS))
def test_a_subset_has_200_classes(tmp_path: Path, name: str):
    place = subset(tmp_path, name, 200)
    out = read_coop(tmp_path, name)
    assert out.class_names == tuple(f"class {5 * i}" for i in range(200))
    assert out.test is not None
    assert out.test.labels.tolist() == list(range(200))
    (place / "n00000001").mkdir()
    with pytest.raises(InputError, match=r"has 201 class folders, ImageNet-. has 200; remove"):
        read_coop(tmp_path, name)


def test_data_sets_for_testing_only_cannot_be_tuned_on(tmp_path: Path):
    from sharpzo import PromptClassifier
    from sharpzo.data.loading import load

    subset(tmp_path, "imagenet-a", 200)
    out = read_coop(tmp_path, "imagenet-a")
    assert (len(out.train), out.val) == (0, None)
    for tune in (
        lambda: draw(out, 16, 1),
        lambda: load(tmp_path, "imagenet-a", shots=None),
        lambda: PromptClassifier("zero-shot").fit(out),
    ):
        with pytest.raises(InputError, match=r"ImageNet-A in .* has no training photos; tune on"):
            tune()


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        ("rm -r images/train/n02000000", "lacks 1 class folders or their photos, images/train/n02"),
        ("rm images/val/n02000000/*", "lacks 1 class folders or their photos, images/val/n020"),
        ("rm -r images/val", r"images/val does not exist; unpack the images"),
        ("rm classnames.txt", r"neither .* holds classnames\.txt; give the folder"),
        ("mkdir images/train/n04000000", r"'n04000000', which classnames\.txt does not name"),
        ("echo tench > classnames.txt", r"classnames\.txt cannot .*expected a new synset"),
        ("echo n01000000 >> classnames.txt", r"classnames\.txt cannot .*expected a new synset"),
        ("echo n01000000 x >> classnames.txt", r"classnames\.txt cannot .*expected a new synset"),
        ("> classnames.txt", r"classnames\.txt cannot be used .*it is empty"),
    ],
)
def test_half_of_imagenet(tmp_path: Path, break_it: str, message: str):
    import subprocess

    imagenet(tmp_path, count=2)
    subprocess.run(break_it, shell=True, check=True, cwd=tmp_path / "imagenet")
    with pytest.raises(InputError, match=message):
        read_coop(tmp_path, "imagenet")


def test_half_of_a_subset(tmp_path: Path):
    subset(tmp_path, "imagenet-r", 120)
    with pytest.raises(InputError, match=r"ImageNet-R in .* lacks 80 class folders"):
        read_coop(tmp_path, "imagenet-r")


def test_a_class_list_lying_in_the_parent_misleads_nobody(tmp_path: Path):
    imagenet(tmp_path, count=1)
    (tmp_path / "classnames.txt").write_text("n09000000 nothing\n")
    assert len(read_coop(tmp_path, "imagenet").train) == 3


def test_fifteen_data_sets_and_their_short_names():
    from sharpzo.methods import METHODS

    short = {
        name.removeprefix("paper/")
        for name in METHODS["sharpzo"].presets
        if name.startswith("paper/")
    }
    shifted = {"imagenetv2", "imagenet-sketch", "imagenet-a", "imagenet-r"}
    assert {ALIASES.get(name, name) for name in short} == set(LAYOUTS) - shifted
    assert len(LAYOUTS) == 15
    assert all(layout(alias) is LAYOUTS[name] for alias, name in ALIASES.items())
