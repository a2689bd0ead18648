"""The table of data sets: where CoOp keeps each, how large it is, and its hand-made template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from sharpzo.data.dataset import TEMPLATE
from sharpzo.errors import InputError

# How the index files and the image folders are read:
#   split     CoOp's JSON names photos, labels and classes
#   variants  FGVC-Aircraft's own text files do
#   synsets   one folder per class, called like its synset; all of classnames.txt
#   numbers   the same, called like the row of the class in classnames.txt
#   subset    the same, but the folders that are there are the classes
Form = Literal["split", "variants", "synsets", "numbers", "subset"]

INSTRUCTIONS = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"

# The seven prompts that Tip-Adapter's family of methods averages on ImageNet and its variants.
IMAGENET_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


@dataclass(frozen=True)
class Layout:
    """Where a data set lies, below CoOp's ``$DATA``, and what the published one holds.

    ``folder`` has the folders ``images`` and the files ``index``. ``published`` is the number of
    photos of each split, as far as it is known; for data sets of ImageNet's kind its splits belong
    to ``images`` in that order. ``home`` is the page of those who made the data set.
    """

    title: str
    folder: str
    form: Form
    images: tuple[str, ...]
    index: tuple[str, ...]
    classes: int
    home: str
    template: str = TEMPLATE
    published: Mapping[str, int] = field(default_factory=dict)


def _zhou(
    title: str,
    folder: str,
    images: tuple[str, ...],
    split: str,
    sizes: tuple[int, int, int],
    home: str,
    template: str = TEMPLATE,
) -> Layout:
    """A data set with a split file; ``sizes``: classes, validation photos, test photos."""
    classes, val, test = sizes
    index = (f"split_zhou_{split}.json",)
    published = {"val": val, "test": test}
    return Layout(title, folder, "split", images, index, classes, home, template, published)


def _test_only(
    title: str, folder: str, form: Form, images: str, classes: int, test: int, home: str
) -> Layout:
    index = ("classnames.txt",)
    return Layout(title, folder, form, (images,), index, classes, home, published={"test": test})


_VGG = "https://www.robots.ox.ac.uk/~vgg/data"

LAYOUTS: Mapping[str, Layout] = MappingProxyType({
    "imagenet": Layout(
        "ImageNet", "imagenet", "synsets", ("images/train", "images/val"), ("classnames.txt",),
        1000, "https://image-net.org", published={"train": 1_281_167, "test": 50_000},
    ),
    "caltech101": _zhou(
        "Caltech-101", "caltech-101", ("101_ObjectCategories",), "Caltech101", (100, 1649, 2465),
        "https://data.caltech.edu/records/mzrjq-6wc02",
    ),
    "oxford_pets": _zhou(
        "Oxford Pets", "oxford_pets", ("images",), "OxfordPets", (37, 736, 3669),
        f"{_VGG}/pets/", "a photo of a {}, a type of pet.",
    ),
    "stanford_cars": _zhou(
        "Stanford Cars", "stanford_cars", ("cars_train", "cars_test"), "StanfordCars",
        (196, 1635, 8041), "https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
    ),
    "oxford_flowers": _zhou(
        "Oxford Flowers", "oxford_flowers", ("jpg",), "OxfordFlowers", (102, 1633, 2463),
        f"{_VGG}/flowers/102/", "a photo of a {}, a type of flower.",
    ),
    "food101": _zhou(
        "Food-101", "food-101", ("images",), "Food101", (101, 20_200, 30_300),
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        "a photo of {}, a type of food.",
    ),
    "fgvc_aircraft": Layout(
        "FGVC-Aircraft", "fgvc_aircraft", "variants", ("images",),
        ("variants.txt", *(f"images_variant_{split}.txt" for split in ("train", "val", "test"))),
        100, f"{_VGG}/fgvc-aircraft/", "a photo of a {}, a type of aircraft.",
        {"val": 3333, "test": 3333},
    ),
    "sun397": _zhou(
        "SUN397", "sun397", ("SUN397",), "SUN397", (397, 3970, 19_850),
        "https://vision.princeton.edu/projects/2010/SUN/",
    ),
    "dtd": _zhou(
        "Describable Textures", "dtd", ("images",), "DescribableTextures", (47, 1128, 1692),
        f"{_VGG}/dtd/", "{} texture.",
    ),
    "eurosat": _zhou(
        "EuroSAT", "eurosat", ("2750",), "EuroSAT", (10, 5400, 8100),
        "https://github.com/phelber/EuroSAT", "a centered satellite photo of {}.",
    ),
    "ucf101": _zhou(
        "UCF101", "ucf101", ("UCF-101-midframes",), "UCF101", (101, 1898, 3783),
        "https://www.crcv.ucf.edu/data/UCF101.php", "a photo of a person doing {}.",
    ),
    "imagenetv2": _test_only(
        "ImageNetV2", "imagenetv2", "numbers", "imagenetv2-matched-frequency-format-val",
        1000, 10_000, "https://github.com/modestyachts/ImageNetV2",
    ),
    "imagenet-sketch": _test_only(
        "ImageNet-Sketch", "imagenet-sketch", "synsets", "images",
        1000, 50_889, "https://github.com/HaohanWang/ImageNet-Sketch",
    ),
    "imagenet-a": _test_only(
        "ImageNet-A", "imagenet-adversarial", "subset", "imagenet-a",
        200, 7500, "https://github.com/hendrycks/natural-adv-examples",
    ),
    "imagenet-r": _test_only(
        "ImageNet-R", "imagenet-rendition", "subset", "imagenet-r",
        200, 30_000, "https://github.com/hendrycks/imagenet-r",
    ),
})  # fmt: skip

# The short names of the published presets (optim/presets.py), and a common spelling.
ALIASES: Mapping[str, str] = MappingProxyType({
    "caltech": "caltech101",
    "pets": "oxford_pets",
    "cars": "stanford_cars",
    "flowers": "oxford_flowers",
    "fgvc": "fgvc_aircraft",
    "imagenet-v2": "imagenetv2",
})  # fmt: skip


def layout(name: str) -> Layout:
    """Return the layout of the data set ``name``, a key of `LAYOUTS` or of `ALIASES`.

    Raises `InputError` for another name; it lists the known ones.

    >>> layout("pets").folder, layout("pets").classes
    ('oxford_pets', 37)
    """
    found = LAYOUTS.get(ALIASES.get(name, name))
    if found is None:
        raise InputError(f"data set {name!r} is unknown; the known ones: {', '.join(LAYOUTS)}")
    return found
