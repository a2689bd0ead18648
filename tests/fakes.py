"""The toys of the conformance suite under the names that the tests use."""

from sharpzo.testing.toys import ToyTower as FakeTower
from sharpzo.testing.toys import make_features

__all__ = ["FakeTower", "make_features"]

# Methods that backpropagate through a checkpoint's tower: a toy has no weights to give to torch.
BACKPROPAGATES = ("clip-lora", "coop", "coop-csc", "tune-blocks")
