"""Which split a folder's name means: train, training and train2017 are one."""

from __future__ import annotations

import re

PLAIN = ("train", "val", "valid", "validation", "test")  # nobody has to be told what these are

_ROLES = {
    "train": "train|training|trn",
    "val": "val|valid|validation|dev|devel|development",
    "test": "test|testing|tst|holdout",
    "eval": "eval|evaluation",
}
_WHAT = "(set|split|data|dataset|images?|imgs?|photos?|pictures?)?"
_YEAR = r"(\d{4})?"
_PATTERNS = {role: re.compile(f"({words}){_WHAT}{_YEAR}") for role, words in _ROLES.items()}


def role(name: str) -> str | None:
    """Return train, val, test or eval, which may be either of the last two; None for a class.

    >>> role("Training_Set"), role("val2017"), role("eval"), role("trainers")
    ('train', 'val', 'eval', None)
    """
    plain = re.sub(r"[\s_.-]+", "", name.casefold())
    return next((role for role, pattern in _PATTERNS.items() if pattern.fullmatch(plain)), None)
