"""A few of the faults of tools/faults.py: kills, ten processes at once, a full disk."""

import importlib.util
import os
import tempfile
from pathlib import Path

import pytest

from sharpzo.storage import journal
from sharpzo.storage.journal import Journal

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")


@pytest.fixture
def faults(monkeypatch):
    path = Path(__file__).parents[2] / "tools" / "faults.py"
    spec = importlib.util.spec_from_file_location("faults", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("EVERY", "SHARE", "PRICE"):  # what the harness sets is undone afterwards
        monkeypatch.setattr(journal, name, getattr(journal, name))
    monkeypatch.setattr(tempfile, "tempdir", tempfile.tempdir)
    monkeypatch.setenv("TMPDIR", os.environ.get("TMPDIR", ""))
    return module


def test_killed_searches_go_on(faults):
    """Both stages of SharpZO, a search that reads features, one with a covariance."""
    found = faults.kills(9, names=["sharpzo", "fgn-csc", "cma-es"])
    assert found["sound"], found
    assert found["kills"] == 9
    assert found["finished"] >= 3


def test_the_harness_finds_a_state_that_is_lost(faults, monkeypatch):
    """A journal that forgets the search's step sizes is found out."""
    after = Journal.after

    def forgetful(self, state, seconds):
        after(self, lambda: {k: v for k, v in state().items() if "path" not in k}, seconds)

    monkeypatch.setattr(Journal, "after", forgetful)
    found = faults.kills(6, names=["cma-es"])
    assert not found["sound"]


def test_ten_processes_at_once(faults):
    found = faults.claims(1)
    assert found["sound"], found


def test_a_disk_that_fills_up(faults):
    try:
        found = faults.disk(["sharpzo"], every=14)
    except SystemExit as error:
        pytest.skip(str(error))
    assert found["sound"], found
    assert found["elsewhere"]
