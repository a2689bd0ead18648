from dataclasses import dataclass, field

import pytest

from sharpzo.errors import InputError
from sharpzo.methods import load_plugin
from sharpzo.optim import GaussNewtonSettings, SharpnessSettings, SharpZoSettings
from sharpzo.settings import Count, Settings, as_dict, override, parse_assignments


@dataclass(frozen=True)
class Inner(Settings):
    rho: float = 0.1
    name: str = "z"
    grid: tuple[float, ...] = (1.0,)
    bound: float | None = None
    active: bool = True


@dataclass(frozen=True)
class Outer(Settings):
    inner: Inner = field(default_factory=Inner)
    steps: Count = 3


def test_dotted_names_change_nested_settings_and_leave_the_original():
    before = Outer()
    changes = parse_assignments(
        ["inner.rho=1", "inner.name=cge", "inner.grid=[1,2]", "inner.bound=5"]
    )
    after = override(before, changes)
    assert as_dict(after)["inner"] == {
        "rho": 1.0, "name": "cge", "grid": [1, 2], "bound": 5, "active": True,
    }  # fmt: skip
    assert before == Outer()


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        (
            "inner.rh=1",
            r"'inner.rh' \(did you mean 'inner.rho'\?\); known: active, bound, grid",
        ),
        ("inner=1", "is a group"),
        ("inner.rho=high", "^inner.rho is 'high'; give a finite number"),
        ("inner.rho=NaN", "^inner.rho is nan; give a finite number"),
        ("inner.grid=[1, NaN]", "give a list, each a finite number"),
        ('inner.grid=["a"]', "give a list, each a finite number"),
        ("inner.active=1", "active is 1; give true or false"),
        ("steps=0", "steps is 0; give an integer of at least 1"),
        ("steps=true", "steps is True; give an integer of at least 1"),
        ("inner.bound=Infinity", "bound is inf"),
        ("steps.x=1", "no setting 'steps.x'"),
        ("steps", "write NAME=VALUE"),
    ],
)
def test_mistakes_are_one_sentence(assignment, sentence):
    with pytest.raises(InputError, match=sentence):
        override(Outer(), parse_assignments([assignment]))


def test_text_that_is_no_utf8_is_refused_in_a_sentence():
    for name in ("steps", "inner.rho"):
        with pytest.raises(InputError, match=r"is '\\udcff'; give"):
            override(Outer(), {name: "\udcff"})


@pytest.mark.parametrize("line", ["import sharpzo.heads.linear", "from sharpzo import Nothing"])
def test_a_plugin_that_imports_what_has_moved_is_told_where_from(tmp_path, line):
    plugin = tmp_path / "old_plugin.py"
    plugin.write_text(line)
    with pytest.raises(InputError, match="import from sharpzo itself"):
        load_plugin(plugin)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (SharpnessSettings, "rho"),
        (SharpZoSettings, "start_std"),
        (GaussNewtonSettings, "rho"),
        (GaussNewtonSettings, "ladder"),
    ],
)
def test_lengths_that_overflow_are_refused(settings, name):
    assert getattr(settings(**{name: 1e6}), name) == 1e6
    with pytest.raises(InputError, match=rf"^{name} is 1e\+300; give a number .* 1e6$"):
        settings(**{name: 1e300})
