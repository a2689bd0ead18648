"""Find the photos of a data set that a recipe names."""

from __future__ import annotations

from pathlib import Path

from sharpzo.data.coop_layout import LAYOUTS
from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.demo import SEEDS, load_demo
from sharpzo.data.few_shot import draw
from sharpzo.data.loading import read
from sharpzo.errors import InputError

DEMO = "demo"


class Sources:
    """Data sets by name: "demo", a name of CoOp's layout below ``root``, or a folder of photos.

    Folders are looked for below ``root``, then below ``beside`` (the recipe's folder).
    """

    def __init__(self, root: str | Path | None, beside: str | Path) -> None:
        self.root = None if root is None else Path(root).resolve()
        self.beside = Path(beside).resolve()
        self._read: dict[str, Dataset] = {}

    def whole(self, name: str) -> Dataset:
        """The data set before any draw."""
        if name not in self._read:
            self._read[name] = load_demo() if name == DEMO else self._open(name)
        return self._read[name]

    def drawn(self, name: str, shots: int | None, seed: int) -> Dataset:
        """The few-shot draw of ``seed``; the demo has draws of its own, fewer shots from these."""
        if name != DEMO:
            return draw(self.whole(name), shots, seed)
        if seed not in SEEDS:
            raise InputError(f"data set demo has no draw of seed {seed}; give seeds 1, 2 or 3")
        return draw(load_demo(seed), shots, seed)

    def tested(self, name: str) -> LabelledPhotos:
        """The test split; raises `InputError` where there is none."""
        found = self.whole(name).test
        if found is None:
            raise InputError(
                f"data set {name} has no test photos; put some into a folder test/ beside train/"
            )
        return found

    def _open(self, name: str) -> Dataset:
        if name in LAYOUTS:
            if self.root is None:
                raise InputError(
                    f"data set {name} needs its photos; give the folder that holds them as --data "
                    "or as data in the recipe"
                )
            if not self.root.is_dir():
                raise InputError(f"there is no data folder {self.root}; give another as --data")
            return read(self.root, name)
        folders = [base / name for base in (self.root, self.beside) if base is not None]
        for folder in folders:
            if folder.is_dir():
                return read(folder)
        raise InputError(
            f"there is no data set '{name}': it is no folder ({folders[0]}) and none of "
            f"{DEMO}, {', '.join(LAYOUTS)}"
        )
