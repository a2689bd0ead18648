import gc
import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

# Shared machines are slow at times, and a red build should mean a change, not a draw.
settings.register_profile("house", deadline=None, derandomize=True, max_examples=25)
settings.register_profile("all", settings.get_profile("house"), max_examples=200)


def pytest_configure(config):
    """`make test-all` tries more examples."""
    settings.load_profile("house" if config.option.markexpr == "not slow" else "all")


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    """The cache folder of all tests, of commands and for `PromptClassifier(cache=...)`: features
    that tests compute are none of the user's, and the user's are none of theirs."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "sharpzo" / "features"


@pytest.fixture(autouse=True, scope="session")
def embedded_model_is_read_once(tmp_path_factory):
    """Hundreds of fits hash its 55 MB three times each, and those without a cache write the graph
    of its image tower; no test changes the model. Memory is not given back between graphs: where
    torch is loaded, its mappings take longer than the fit (test_plan.py has processes of its own).
    """
    from sharpzo.towers import graph_store, tower
    from sharpzo.towers.checkpoint import EMBEDDED, Checkpoint
    from sharpzo.towers.lowmem import streaming
    from sharpzo.towers.tower import OnnxImageTower

    digest, fingerprint = Checkpoint.digest, Checkpoint.fingerprint.fget
    init = OnnxImageTower.__init__
    graphs = graph_store.GraphStore(tmp_path_factory.mktemp("graphs"))
    known = {}

    def once(checkpoint, key, compute):
        if checkpoint.folder != EMBEDDED:
            return compute()
        if key not in known:
            known[key] = compute()
        return known[key]

    def digest_once(self, prefixes, *extra):
        names = tuple(prefixes)
        return once(self, (names, extra), lambda: digest(self, names, *extra))

    def with_graphs(self, checkpoint, *given, **options):
        init(self, checkpoint, *given, **options)
        if checkpoint.folder == EMBEDDED and self._graphs.folder is None:
            self._graphs = graphs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "digest", digest_once)
        whole = property(lambda self: once(self, "files", lambda: fingerprint(self)))
        patch.setattr(Checkpoint, "fingerprint", whole)
        patch.setattr(OnnxImageTower, "__init__", with_graphs)
        for module in (graph_store, streaming, tower):
            patch.setattr(module, "trim", lambda: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def commands_are_made_once():
    """Typer reads the signature of a command before every call of it."""
    from sharpzo.cli.app import Commands

    make, made = Commands.get_command, {}

    def get_command(self, ctx, name):
        if name not in made:
            made[name] = make(self, ctx, name)
        return made[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Commands, "get_command", get_command)
        yield


@pytest.fixture(autouse=True, scope="module")
def imports_are_not_garbage():
    """Torch and transformers are a million objects, which every collection would look through; our
    towers collect whenever they let weights go."""
    gc.collect()
    gc.freeze()
