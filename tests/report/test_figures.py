"""Every chart on small data: it parses, says what it shows, draws its marks, and keeps no NaN."""

import math
from xml.etree import ElementTree

import numpy as np
import pytest

from sharpzo.report.charts import Line, line_chart, reliability, surface
from sharpzo.report.landscape import shared_range
from sharpzo.report.page import percent
from sharpzo.report.sections import kept, search
from sharpzo.types import Step

EVIL = '<b>&"$x_1$" [/b] 猫'
SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg, title):
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == title
    assert root.find(f"{SVG}title").text == title
    assert not [one for one in root.iter(f"{SVG}path") if "nan" in (one.get("d") or "").lower()]
    return root


def words(root):
    return " ".join("".join(one.itertext()) for one in root.iter(f"{SVG}text"))


def lines_of(root, colour):
    """Vertices of the lines drawn in a colour of the page."""
    found = []
    for one in root.iter(f"{SVG}path"):
        style = one.get("style") or ""
        if one.get("d") and f"stroke: var(--{colour})" in style and "fill: none" in style:
            found.append(
                [pair.split()[0] for pair in one.get("d").replace("L", "M").split("M")[1:]]
            )
    return found


def test_a_line_chart_drops_what_is_not_finite():
    root = parsed(
        line_chart(
            [Line("loss", [0, 10, 20, 30], [3.0, math.nan, 2.0, 1.0]),
             Line(EVIL, [0, 30], [None, 1.5], "before")],
            title=EVIL, marks=[(20, "next")], dot=(30, 1.0, "kept"),
        ),
        EVIL,
    )  # fmt: skip
    assert max(map(len, lines_of(root, "accent"))) == 3
    assert {"next", "kept", "loss", "forwards"} <= set(words(root).split())
    assert EVIL in words(root)


@pytest.mark.parametrize("ys", [[0.5], [0.5, 0.5], []])
def test_a_line_chart_of_almost_nothing(ys):
    parsed(line_chart([Line("a", range(len(ys)), ys)], title="t", fractions=True), "t")


def test_reliability_draws_the_bins_that_hold_photos():
    found = np.array([0.0, 0.5, 0.9]), np.array([0.0, 0.25, 0.9]), np.array([0, 4, 16])
    root = parsed(reliability(*found, title="t", kind="after", words=EVIL), "t")
    assert EVIL in words(root)
    gaps = [one for one in lines_of(root, "accent") if len(one) == 2]
    assert len(gaps) == 2
    empty = np.zeros(3), np.zeros(3), np.zeros(3, int)
    parsed(reliability(*empty, title="t", kind="before", words=""), "t")


@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_a_surface_with_holes_and_a_flat_one_are_drawn(hole):
    axis = np.linspace(-1, 1, 5)
    bowl = axis[:, None] ** 2 + axis[None] ** 2
    bowl[0, 0] = hole
    root = parsed(surface(bowl, low=0.0, high=2.0, radius=1.0, title="b", words="after"), "b")
    assert "after" in words(root)
    parsed(surface(np.ones((5, 5)), low=1.0, high=1.0, radius=1.0, title="f", words=""), "f")


def test_surfaces_share_the_finite_range():
    losses = np.ones((3, 3))
    losses[0, 0], losses[2, 2] = np.nan, np.inf
    assert shared_range([losses, np.full((3, 3), 4.0)]) == (1.0, 4.0)
    assert shared_range([np.full((3, 3), np.inf)]) == (0.0, 1.0)


def test_the_same_numbers_give_the_same_chart():
    found = [Line(f"m{i}", [100, 1000, 10_000], [0.2, 0.3, 0.4 + i / 1000]) for i in range(3)]
    one, two = (line_chart(found, title="t") for _ in range(2))
    assert one == two
    assert {"m0", "m1", "m2"} <= set(words(parsed(one, "t")).split())


def test_a_share_in_per_cent():
    assert percent(0.8123) == "81.2\u00a0%"
    assert percent(None) == "n/a"


def history():
    def one(k, stage, forwards, accuracy, loss):
        return Step(k, stage, forwards, forwards / 100, loss, accuracy, loss + 0.1)

    return [
        one(0, "sharp-cma", 1, 0.2, 2.0),
        one(5, "sharp-cma", 200, 0.5, 1.5),
        one(6, "sparse-zo", 400, 0.6, 1.2),
        one(9, "sparse-zo", 600, 0.6, 1.0),
        one(12, "sparse-zo", 800, 0.4, 0.9),
    ]


def test_the_kept_point_and_the_switch_are_read_off_the_journal():
    curves = search({"settings": {"choose": True}}, history())["curves"]
    assert all("sparse-zo" in curve and "sharp-cma" not in curve for curve in curves)
    assert kept(history(), choose=True).forwards == 600
    assert kept(history(), choose=False).forwards == 800
    assert len(curves) == 2


def test_a_search_without_validation_has_one_curve():
    steps = [Step(k, "cma", k, float(k), 1.0 / (k + 1)) for k in range(3)]
    assert len(search({"settings": {}}, steps)["curves"]) == 1
