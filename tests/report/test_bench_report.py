"""The two charts of a bench's page; the page itself is in tests/bench."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from sharpzo.report.comparison import Entry, Track, ranking, tracks


def parsed(svg):
    assert "nan" not in svg.lower()
    return ElementTree.fromstring(svg)


def marks(root, name, word):
    return [
        one
        for one in root.iter(f"{{http://www.w3.org/2000/svg}}{name}")
        if word in (one.get("class") or "").split()
    ]


def test_the_best_stands_above_and_whiskers_are_intervals():
    root = parsed(
        ranking(
            [Entry("low", 0.2, None, False), Entry("<high>", 0.8, 0.05, True)], title="accuracy"
        )
    )
    above, below = marks(root, "circle", "rank")
    assert "searched" in above.get("class")
    assert float(above.get("cy")) < float(below.get("cy"))
    assert float(above.get("cx")) > float(below.get("cx"))
    (whisker,) = marks(root, "line", "whisker")
    middle = (float(whisker.get("x1")) + float(whisker.get("x2"))) / 2
    assert middle == pytest.approx(float(above.get("cx")), abs=0.02)


def test_tracks_are_named_at_their_ends_without_overlap():
    found = [Track(f"m{i}", [100, 1000, 10_000], [0.2, 0.3, 0.4 + i / 1000]) for i in range(6)]
    root = parsed(tracks(found, [("probe", 0.8), ("zero-shot", 0.2)], title="curves"))
    assert len(marks(root, "polyline", "line")) == 6
    words = [*marks(root, "text", "note"), *marks(root, "text", "label")]
    heights = sorted(float(one.get("y")) for one in words if one.text != "forwards")
    assert len(heights) == 8
    assert min(b - a for a, b in pairwise(heights)) > 14.5
    axis = [float(one.get("cx")) for one in marks(root, "circle", "mark")][:3]
    assert axis[1] - axis[0] == pytest.approx(axis[2] - axis[1], abs=0.05)  # decades are equal
    parsed(tracks([Track("one", [5], [0.5])], [], title="a point"))
