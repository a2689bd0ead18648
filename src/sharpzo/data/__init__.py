"""Folders, splits, draws and bounded decoding: labelled photos with names."""

from sharpzo.data.coop_layout import read_coop
from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.decoding import decode
from sharpzo.data.demo import load_demo
from sharpzo.data.few_shot import draw, halves
from sharpzo.data.folder import read_folder
from sharpzo.data.inventory import Inventory, check
from sharpzo.data.layouts import IMAGENET_TEMPLATES, LAYOUTS
from sharpzo.data.loading import load
from sharpzo.data.photo import Photo, as_photo

__all__ = [
    "IMAGENET_TEMPLATES",
    "LAYOUTS",
    "Dataset",
    "Inventory",
    "LabelledPhotos",
    "Photo",
    "as_photo",
    "check",
    "decode",
    "draw",
    "halves",
    "load",
    "load_demo",
    "read_coop",
    "read_folder",
]
