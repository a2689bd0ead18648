"""The table of data sets: where CoOp keeps each, how large it is, and its hand-made template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    images: tuple[str, ...]
    index: tuple[str, ...]
    classes: int
    published: Mapping[str, int]
    home: str
    template: str = TEMPLATE
    form: Form = "split"


_VGG = "https://www.robots.ox.ac.uk/~vgg/data"
_NAMES = ("classnames.txt",)

LAYOUTS: Mapping[str, Layout] = MappingProxyType({
    "imagenet": Layout(
        "ImageNet", "imagenet", ("images/train", "images/val"), _NAMES, 1000,
        {"train": 1_281_167, "test": 50_000}, "https://image-net.org", form="synsets",
    ),
    "caltech101": Layout(
        "Caltech-101", "caltech-101", ("101_ObjectCategories",), ("split_zhou_Caltech101.json",),
        100, {"val": 1649, "test": 2465}, "https://data.caltech.edu/records/mzrjq-6wc02",
    ),
    "oxford_pets": Layout(
        "Oxford Pets", "oxford_pets", ("images",), ("split_zhou_OxfordPets.json",), 37,
        {"val": 736, "test": 3669}, f"{_VGG}/pets/", "a photo of a {}, a type of pet.",
    ),
    "stanford_cars": Layout(
        "Stanford Cars", "stanford_cars", ("cars_train", "cars_test"),
        ("split_zhou_StanfordCars.json",), 196, {"val": 1635, "test": 8041},
        "https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
    ),
    "oxford_flowers": Layout(
        "Oxford Flowers", "oxford_flowers", ("jpg",), ("split_zhou_OxfordFlowers.json",), 102,
        {"val": 1633, "test": 2463}, f"{_VGG}/flowers/102/", "a photo of a {}, a type of flower.",
    ),
    "food101": Layout(
        "Food-101", "food-101", ("images",), ("split_zhou_Food101.json",), 101,
        {"val": 20_200, "test": 30_300},
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        "a photo of {}, a type of food.",
    ),
    "fgvc_aircraft": Layout(
        "FGVC-Aircraft", "fgvc_aircraft", ("images",),
        ("variants.txt", *(f"images_variant_{split}.txt" for split in ("train", "val", "test"))),
        100, {"val": 3333, "test": 3333}, f"{_VGG}/fgvc-aircraft/",
        "a photo of a {}, a type of aircraft.", "variants",
    ),
    "sun397": Layout(
        "SUN397", "sun397", ("SUN397",), ("split_zhou_SUN397.json",), 397,
        {"val": 3970, "test": 19_850}, "https://vision.princeton.edu/projects/2010/SUN/",
    ),
    "dtd": Layout(
        "Describable Textures", "dtd", ("images",), ("split_zhou_DescribableTextures.json",), 47,
        {"val": 1128, "test": 1692}, f"{_VGG}/dtd/", "{} texture.",
    ),
    "eurosat": Layout(
        "EuroSAT", "eurosat", ("2750",), ("split_zhou_EuroSAT.json",), 10,
        {"val": 5400, "test": 8100}, "https://github.com/phelber/EuroSAT",
        "a centered satellite photo of {}.",
    ),
    "ucf101": Layout(
        "UCF101", "ucf101", ("UCF-101-midframes",), ("split_zhou_UCF101.json",), 101,
        {"val": 1898, "test": 3783}, "https://www.crcv.ucf.edu/data/UCF101.php",
        "a photo of a person doing {}.",
    ),
    "imagenetv2": Layout(
        "ImageNetV2", "imagenetv2", ("imagenetv2-matched-frequency-format-val",), _NAMES, 1000,
        {"test": 10_000}, "https://github.com/modestyachts/ImageNetV2", form="numbers",
    ),
    "imagenet-sketch": Layout(
        "ImageNet-Sketch", "imagenet-sketch", ("images",), _NAMES, 1000,
        {"test": 50_889}, "https://github.com/HaohanWang/ImageNet-Sketch", form="synsets",
    ),
    "imagenet-a": Layout(
        "ImageNet-A", "imagenet-adversarial", ("imagenet-a",), _NAMES, 200,
        {"test": 7500}, "https://github.com/hendrycks/natural-adv-examples", form="subset",
    ),
    "imagenet-r": Layout(
        "ImageNet-R", "imagenet-rendition", ("imagenet-r",), _NAMES, 200,
        {"test": 30_000}, "https://github.com/hendrycks/imagenet-r", form="subset",
    ),
})  # fmt: skip

# The short names of the published presets (methods/sharpzo_prompt.py), and a common spelling.
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
