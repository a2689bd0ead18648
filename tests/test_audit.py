"""What `sharpzo check` finds: planted copies, flipped labels; leaving out is exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from command import answer, demo_folder, document, refused
from sharpzo import audit
from sharpzo.data.demo import load_demo
from sharpzo.data.photo import Photo


@given(st.integers(0, 999), st.integers(3, 20), st.integers(2, 4))
def test_leaving_photos_out_equals_fits_without_them(seed, photos, classes):
    generator = np.random.default_rng(seed)
    states = generator.standard_normal((photos, 6))
    labels = generator.integers(0, classes, photos)
    place = np.minimum(np.arange(photos), photos - 2)  # the last two go together
    found = audit.leave_one_out(states, labels, classes, place)
    x = states - states.mean(axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    wanted = np.eye(classes)[labels] - 1 / classes
    for row in range(photos):
        kept = place != place[row]
        gram = x[kept].T @ x[kept] + audit.PENALTY * np.eye(6)
        assert np.allclose(found[row], x[row] @ np.linalg.solve(gram, x[kept].T @ wanted[kept]))


def test_flipped_labels_come_first():
    generator = np.random.default_rng(0)
    means = generator.standard_normal((4, 12))
    truth = np.repeat(np.arange(4), 20)
    states = means[truth] + 0.3 * generator.standard_normal((80, 12))
    labels = truth.copy()
    labels[[3, 30, 61]] = [2, 0, 1]
    suspects, mixed, accuracy = audit.find_suspects(states, labels, np.bincount(labels))
    assert {one.row for one in suspects} == {3, 30, 61}
    assert all(truth[one.row] == one.likely for one in suspects)
    assert accuracy == pytest.approx(77 / 80)
    assert not mixed


def test_classes_that_look_alike_are_named():
    generator = np.random.default_rng(0)
    means = generator.standard_normal((3, 12))
    means[1] = means[0] + 0.05 * generator.standard_normal(12)
    labels = np.repeat(np.arange(3), 20)
    states = means[labels] + 0.3 * generator.standard_normal((60, 12))
    _, mixed, _ = audit.find_suspects(states, labels, np.bincount(labels))
    assert {(one.one, one.other) for one in mixed} <= {(0, 1), (1, 0)}
    assert mixed


def test_copies_do_not_vouch_for_each_other():
    generator = np.random.default_rng(0)
    truth = np.repeat(np.arange(2), 10)
    states = np.where(truth == 0, 1.0, -1.0)[:, None] + 0.5 * generator.standard_normal((20, 8))
    states[[1, 2, 3, 4]] = states[0]  # one photo of the first class, five times in the second
    labels = truth.copy()
    labels[[0, 1, 2, 3, 4]] = 1
    copies = [audit.Copies((0, 1, 2, 3, 4), exact=True)]
    counts = np.bincount(labels)
    assert {0, 1, 2, 3, 4} <= {
        s.row for s in audit.find_suspects(states, labels, counts, copies)[0]
    }


@pytest.mark.parametrize("labels", [[0], [0, 1], [0, 0, 0, 1]], ids=str)
def test_too_few_photos_say_nothing(labels):
    states = np.eye(len(labels))
    counts = np.bincount(labels, minlength=3)
    assert audit.find_suspects(states, np.array(labels), counts) == ([], [], None)


def test_the_same_picture_in_another_form_is_found():
    photos = list(load_demo(1).train.photos[:40])
    pixels = photos[7].decode()
    planted = [
        pixels,
        np.ascontiguousarray(pixels[:, ::-1]),
        np.clip(1.1 * pixels + 9, 0, 255).astype(np.uint8),
        np.asarray(Image.fromarray(pixels).resize((50, 50))),
    ]
    photos += [Photo(f"copy {k}", pixels=one) for k, one in enumerate(planted)]
    (found,) = audit.find_copies(photos, [photo.digest() for photo in photos])
    assert found.rows == (7, 40, 41, 42, 43)
    assert not found.exact


def test_photos_with_hardly_any_contrast_are_compared_by_colour():
    """Such as photos of the sea from above: their grey thumbnails say nothing."""
    generator = np.random.default_rng(0)
    waves = generator.normal(0, 0.8, (20, 12, 12, 3))
    sea = np.array((25, 50, 75)) + np.kron(waves, np.ones((1, 5, 5, 1)))
    pixels = list(sea.round().astype(np.uint8))
    planted = [
        np.ascontiguousarray(pixels[3][:, ::-1]),
        np.clip(1.15 * pixels[3] + 5, 0, 255).astype(np.uint8),
        np.asarray(Image.fromarray(pixels[3]).resize((36, 36))),
    ]
    photos = [Photo(str(k), pixels=one) for k, one in enumerate([*pixels, *planted])]
    contrasts = [audit._thumbnails(photo)[0].std() for photo in photos[:20]]
    assert max(contrasts) < audit.FLAT
    (found,) = audit.find_copies(photos, [photo.digest() for photo in photos])
    assert found.rows == (3, 20, 21, 22)


def test_photos_without_contrast_are_no_copies():
    grey = [np.full((30, 30, 3), level, np.uint8) for level in (9, 10, 250)]
    photos = [Photo(str(k), pixels=one) for k, one in enumerate(grey)]
    assert audit.find_copies(photos, [photo.digest() for photo in photos]) == []


def test_the_command_names_what_was_planted(tmp_path, capsys):
    folder = demo_folder(tmp_path / "photos", train=8, test=2)
    one, other = sorted((folder / "train").iterdir())[:2]
    sample = min(one.iterdir())
    (other / "copy.png").write_bytes(sample.read_bytes())
    Image.open(sample).rotate(0).resize((90, 90)).save(folder / "test" / one.name / "again.jpg")
    (one / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    before = sorted(folder.rglob("*"))
    page = tmp_path / "check.html"
    found = document(capsys, "check", folder, "--html", page, "--cache", tmp_path / "cache")
    assert [error["path"] for error in found["errors"]] == [str(one / "broken.png")]
    (copies,) = (c for c in found["copies"] if str(sample) in {p["path"] for p in c["photos"]})
    assert {p["path"] for p in copies["photos"]} == {
        str(sample), str(other / "copy.png"), str(folder / "test" / one.name / "again.jpg"),
    }  # fmt: skip
    assert found["html"] == str(page)
    html = page.read_text()
    assert "copy.png" in html
    assert "broken.png" in html
    assert sorted(folder.rglob("*")) == before
    said = answer(capsys, 0, "check", folder, "--cache", tmp_path / "cache").out
    assert "it has 2 classes, and at most one is right" in said
    assert f"sharpzo check {folder} --html check.html" in said


def test_a_folder_without_a_readable_photo_is_refused(tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"no picture")
    assert "no photo that can be read" in refused(capsys, "check", tmp_path)
