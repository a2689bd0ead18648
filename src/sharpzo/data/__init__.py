"""Labelled photos: read from what a user names, drawn, checked, and decoded within bounds.

How a folder becomes training photos:

1. `loading` recognises what is given: a zip file (`archive` unpacks it), a data set in CoOp's
   layout (`layouts` lists them, `coop_layout` reads them), a file of labels (`label_file`), or
   class folders (`folder`). `entries` tells photos, classes and splits from what is passed over.
2. Each reader returns a `dataset.Dataset`: labelled photos by split, notes, and what was left out.
   No photo has been opened so far.
3. `few_shot` draws photos per class by CoOp's rule, and splits classes into base and new ones.
4. `photo_check` reads every photo once: which cannot be used, and which are there twice.
5. A `photo.Photo` is decoded when it is encoded (`decoding`); a `photo.View` is a crop of it.

`arguments` takes photos and labels from Python code, `inventory` says what there is of a data set
in CoOp's layout, and `demo` has photos to try.
"""

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
