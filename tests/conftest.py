import gc
import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

# Shared machines are slow at times, and a red build should mean a change, not a draw.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Features that tests compute are none of the user's, and the user's are none of theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def embedded_model_is_hashed_once():
    """Every fit hashes its 55 MB three times, every prediction once; no test changes them."""
    from sharpzo.towers.checkpoint import EMBEDDED, Checkpoint

    digest, fingerprint = Checkpoint.digest, Checkpoint.fingerprint.fget
    known = {}

    def once(checkpoint, key, compute):
        if checkpoint.folder != EMBEDDED:
            return compute()
        if key not in known:
            known[key] = compute()
        return known[key]

    def digest_once(self, prefixes, *extra):
        key = (tuple(prefixes), extra)
        return once(self, key, lambda: digest(self, *key[:1], *extra))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "digest", digest_once)
        whole = property(lambda self: once(self, "files", lambda: fingerprint(self)))
        patch.setattr(Checkpoint, "fingerprint", whole)
        yield


@pytest.fixture(autouse=True, scope="module")
def imports_are_not_garbage():
    """Torch and transformers are a million objects, which every collection would look through; our
    towers collect whenever they let weights go."""
    gc.collect()
    gc.freeze()
