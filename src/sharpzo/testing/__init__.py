"""The conformance suite for searches and methods, ours and yours."""

from sharpzo.testing.methods import METHOD_CHECKS, check_method, toy_task
from sharpzo.testing.searches import (
    SEARCH_CHECKS,
    Bowl,
    check_search,
    feature_bowl,
    through_files,
)
from sharpzo.testing.toys import ToyImageTower, ToyTower, make_features

__all__ = [
    "METHOD_CHECKS",
    "SEARCH_CHECKS",
    "Bowl",
    "ToyImageTower",
    "ToyTower",
    "check_method",
    "check_search",
    "feature_bowl",
    "make_features",
    "through_files",
    "toy_task",
]
