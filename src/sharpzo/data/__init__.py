"""Folders, splits, draws and bounded decoding: labelled photos with names."""

from sharpzo.data.coop import read_coop
from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.demo import load_demo
from sharpzo.data.draw import draw
from sharpzo.data.folder import read_folder
from sharpzo.data.intake import load
from sharpzo.data.photos import Photo, as_photo, decode

__all__ = [
    "Dataset",
    "LabelledPhotos",
    "Photo",
    "as_photo",
    "decode",
    "draw",
    "load",
    "load_demo",
    "read_coop",
    "read_folder",
]
