"""HTTP for `sharpzo serve` and `sharpzo ui` (extra ``web``): who may ask, how much, how it ends."""
