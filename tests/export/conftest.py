"""A run of the embedded model on a few demo photos, and these photos as files."""

import pytest
from PIL import Image

from command import CLASSES
from sharpzo import PromptClassifier
from sharpzo.data.demo import load_demo


@pytest.fixture(scope="session")
def demo():
    """Three classes with three photos each: paths by class, of training and of test photos."""
    found = load_demo()
    return {
        split: {
            name: [
                photo.decode()
                for photo, label in zip(part.photos, part.labels, strict=True)
                if found.class_names[label] == name
            ][:3]
            for name in CLASSES
        }
        for split, part in (("train", found.train), ("test", found.test))
    }


@pytest.fixture(scope="session")
def run(demo, tmp_path_factory):
    """A run of the default method."""
    photos = [one for several in demo["train"].values() for one in several]
    labels = [name for name, several in demo["train"].items() for _ in several]
    folder = tmp_path_factory.mktemp("export") / "run"
    PromptClassifier(threads=1).fit(photos, labels).save(folder)
    return folder


@pytest.fixture(scope="session")
def photos(demo, tmp_path_factory):
    """A folder of six test photos."""
    folder = tmp_path_factory.mktemp("photos")
    for name, several in demo["test"].items():
        for row, pixels in enumerate(several[:2]):
            Image.fromarray(pixels).save(folder / f"{name}-{row}.png")
    return folder
