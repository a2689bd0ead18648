"""Every figure on small data: it parses, has the marks it should have, and no NaN."""

import math
from xml.etree import ElementTree

import numpy as np
import pytest

from sharpzo.report.curves import curves, kept, switches
from sharpzo.report.figures import Line, class_bars, heat_map, line_chart, reliability
from sharpzo.report.surface import RAMP, colour, colour_bar, shared_range, surface
from sharpzo.report.svg import element, number, ticks
from sharpzo.types import Step

EVIL = '<b>&"bold"'


def parsed(svg):
    assert "nan" not in svg.lower().replace("nano", "")
    assert "inf" not in svg.lower()
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label")
    return root


def marks(root, name, word=""):
    tag = f"{{http://www.w3.org/2000/svg}}{name}"
    return [one for one in root.iter(tag) if word in (one.get("class") or "").split() or not word]


def coordinates(one):
    return [tuple(map(float, pair.split(","))) for pair in one.get("points").split()]


def test_a_line_chart_drops_what_is_not_a_number_and_keeps_the_order():
    root = parsed(
        line_chart(
            [Line("loss", [0, 10, 20, 30], [3.0, math.nan, 2.0, 1.0]),
             Line(EVIL, [0, 30], [math.inf, 1.5], "second")],
            title=EVIL, x_label="forwards", marks=[(20, "next")], dot=(30, 1.0, "kept"),
        )
    )  # fmt: skip
    first, second = marks(root, "polyline", "line")
    points = coordinates(first)
    assert len(points) == 3
    assert len(coordinates(second)) == 1
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert points[0][1] < points[1][1] < points[2][1]  # a lower loss stands lower: y grows down
    assert len(marks(root, "line", "switch")) == 1
    assert len(marks(root, "circle", "dot")) == 1
    assert float(marks(root, "line", "switch")[0].get("x1")) == pytest.approx(points[1][0], abs=0.1)


@pytest.mark.parametrize("ys", [[0.5], [0.5, 0.5], []])
def test_a_line_chart_of_almost_nothing(ys):
    xs = list(range(len(ys)))
    parsed(line_chart([Line("a", xs, ys)], title="t", x_label="x", fractions=True))


def test_bars_are_as_long_as_their_accuracy():
    root = parsed(class_bars(["a", EVIL], [0.5, None], [1.0, 0.25], title="bars"))
    before, after = (marks(root, "rect", kind) for kind in ("before", "after"))
    widths = [float(one.get("width")) for one in before + after if "bar" in one.get("class")]
    assert len(widths) == 4
    assert widths == pytest.approx([widths[2] / 2, 0, widths[2], widths[2] / 4], abs=0.02)
    assert any(EVIL in "".join(one.itertext()) for one in marks(root, "text", "name"))


def test_a_heat_map_has_a_cell_for_each_pair_that_occurred():
    counts = np.array([[3, 1, 0], [0, 0, 0], [2, 0, 2]])
    root = parsed(heat_map(counts, ["a", "b", EVIL], title="confusion"))
    assert len(marks(root, "rect", "right")) == 2
    assert len(marks(root, "rect", "wrong")) == 2
    assert sorted(one.text for one in marks(root, "text", "count")) == ["1", "2", "2", "3"]
    shades = [float(one.get("fill-opacity")) for one in marks(root, "rect", "right")]
    assert shades[0] > shades[1]  # three quarters against a half


def test_a_large_heat_map_has_no_words():
    root = parsed(heat_map(np.eye(200, dtype=int), [f"class {k}" for k in range(200)], title="t"))
    assert not marks(root, "text")
    assert len(marks(root, "rect", "right")) == 200


def test_reliability_draws_the_bins_that_hold_photos():
    root = parsed(
        reliability(
            np.array([0.0, 0.5, 0.9]), np.array([0.0, 0.25, 0.9]), np.array([0, 4, 16]),
            title="t", kind="after", words=EVIL,
        )
    )  # fmt: skip
    small, large = marks(root, "circle", "bin")
    assert float(small.get("r")) < float(large.get("r"))
    gaps = [abs(float(g.get("y1")) - float(g.get("y2"))) for g in marks(root, "line", "gap")]
    assert gaps[0] > 50
    assert gaps[1] == pytest.approx(0)


def test_a_surface_has_a_quad_for_each_cell_and_shows_the_bowl():
    axis = np.linspace(-1, 1, 5)
    bowl = axis[:, None] ** 2 + axis[None] ** 2
    root = parsed(surface(bowl, low=0.0, high=2.0, title="bowl", words="after"))
    (mesh,) = marks(root, "g", "mesh")
    quads = list(mesh)
    assert len(quads) == 16
    assert all(len(coordinates(quad)) == 4 for quad in quads)
    brightness = [int(quad.get("fill")[1:3], 16) for quad in quads]
    assert brightness[0] > max(brightness[7:9])  # the far corner against the bottom
    flat = parsed(surface(np.ones((5, 5)), low=1.0, high=1.0, title="flat", words=""))
    assert len(list(marks(flat, "g", "mesh")[0])) == 16


def test_a_surface_with_holes_is_drawn_at_its_top():
    losses = np.ones((3, 3))
    losses[0, 0], losses[2, 2] = np.nan, np.inf
    root = parsed(surface(losses, low=1.0, high=3.0, title="holes", words=""))
    assert len(list(marks(root, "g", "mesh")[0])) == 4
    assert shared_range([losses, np.full((3, 3), 4.0)]) == (1.0, 4.0)
    assert shared_range([np.full((3, 3), np.inf)]) == (0.0, 1.0)


def test_the_ramp_grows_lighter_all_the_way():
    light = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in RAMP]
    assert light == sorted(light)
    assert colour(-1.0) == colour(0.0) != colour(0.5) != colour(2.0) == colour(1.0)
    assert len(marks(parsed(colour_bar(0.0, 2.0, title="colours")), "rect")) == 64


def test_coordinates_must_be_numbers():
    with pytest.raises(ValueError, match="nan"):
        element("rect", x=math.nan)
    assert number(-0.001) == "0"
    assert ticks(1.0, 1.0) == [1.0]
    assert ticks(0.03, 0.97, 4) == [0.25, 0.5, 0.75]


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
    assert switches(history()) == [(400, "sparse-zo")]
    assert kept(history(), choose=True).forwards == 600
    assert kept(history(), choose=False).forwards == 800
    loss, accuracy = (parsed(chart) for chart in curves(history(), choose=True))
    assert len(marks(loss, "polyline", "line")) == 2
    assert len(marks(accuracy, "circle", "dot")) == 1


def test_a_search_without_validation_has_one_curve():
    steps = [Step(k, "cma", k, float(k), 1.0 / (k + 1)) for k in range(3)]
    assert len(curves(steps, choose=True)) == 1
