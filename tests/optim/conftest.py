"""pycma, the reference, warns at import where matplotlib is missing; warnings are errors here."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import cma  # noqa: F401
