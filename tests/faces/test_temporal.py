"""A face's noise averaged away along its motion, and nothing of it that moves by itself."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from quantface_core.bundled import DEMO_PHOTO, demo_faces
from quantface_core.faces import temporal
from quantface_core.faces.align import compose, face_transform, shift
from quantface_core.faces.temporal import Link, average_crops, average_film, gaussian, links_of, view_of
from quantface_core.io.photos import read_photo
from quantface_core.types import Pixels

NEAR = range(-4, 5)
TRUTH = cv2.resize(read_photo(DEMO_PHOTO).pixels[:256, 96:352], (512, 512), interpolation=cv2.INTER_CUBIC)
PLACE = compose(
    face_transform(demo_faces()[0], 256), np.array([[0.5, 0, 96 - 0.25], [0, 0.5, -0.25]])
)  # of the still face, to its crop
FACE = np.s_[150:330, 190:350]  # eyes, nose and mouth of the still face


def _shown(offset: int, truth: Pixels = TRUTH) -> Pixels:
    """The face as it is so many frames later: it goes right and a little down."""
    return cv2.warpAffine(truth, shift(1.7 * offset, 0.6 * offset), (512, 512), flags=cv2.INTER_CUBIC)


def _averaged(frames: dict[int, Pixels]) -> np.ndarray:
    """The still frame's face; crops stay where the face stood, as a tracker's do that lags."""
    views = {offset: view_of(frame, PLACE, 256) for offset, frame in frames.items()}
    average = average_film(views, links_of(views, 2.0))
    result = frames[0].astype(np.float32)
    result[views[0].area.pixels] = average
    return result


def _noisy(frames: dict[int, Pixels], noise: float = 8) -> dict[int, Pixels]:
    draws = np.random.default_rng(0)
    return {
        n: np.clip(np.rint(f + draws.normal(0, noise, f.shape)), 0, 255).astype(np.uint8) for n, f in frames.items()
    }


def _error(result: np.ndarray, truth: Pixels = TRUTH) -> float:
    return float(np.sqrt(np.square(result[FACE].astype(np.float32) - truth[FACE]).mean()))


def test_noise_goes_and_detail_stays() -> None:
    frames = _noisy({offset: _shown(offset) for offset in NEAR})
    assert _error(_averaged(frames)) < 0.55 * _error(frames[0])


def test_a_film_without_noise_stays_as_it_is() -> None:
    views = {offset: view_of(_shown(offset), PLACE, 256) for offset in NEAR}
    assert links_of({0: views[0]}, 2.0) == {}
    result = _averaged({offset: _shown(offset) for offset in NEAR})
    assert _error(result) < 0.5


@pytest.mark.parametrize("shown", [(0,), tuple(offset for offset in NEAR if offset)], ids=["here", "elsewhere"])
def test_what_is_in_one_frame_alone_leaves_no_ghost(shown: tuple[int, ...]) -> None:
    covered = TRUTH.copy()
    cv2.circle(covered, (270, 260), 24, (40, 160, 60), -1)  # over the mouth
    truths = {offset: covered if offset in shown else TRUTH for offset in NEAR}
    frames = _noisy({offset: _shown(offset, truth) for offset, truth in truths.items()})
    result = _averaged(frames)
    place = np.s_[244:276, 254:286]
    wrong = result[place] - truths[0][place]
    assert np.abs(wrong.mean((0, 1))).max() < 3
    assert np.sqrt(np.square(wrong).mean()) < 1.1 * np.sqrt(np.square(frames[0][place] - truths[0][place] * 1.0).mean())


def test_crops_are_averaged_along_the_same_ways() -> None:
    frames = _noisy({offset: _shown(offset) for offset in NEAR})
    views = {offset: view_of(frame, PLACE, 256) for offset, frame in frames.items()}
    links = links_of(views, 2.0)
    crops = {offset: cv2.resize(view.crop, (128, 128)) for offset, view in views.items()}
    clean = cv2.resize(view_of(TRUTH, PLACE, 256).crop, (128, 128))
    inner = np.s_[32:96, 32:96]
    before, after = (np.square(crop[inner] - clean[inner]).mean() for crop in (crops[0], average_crops(crops, links)))
    assert after < before / 2
    del crops[1]  # a frame that was not restored counts for nothing
    assert average_crops(crops, links).shape == (128, 128, 3)


def test_an_average_counts_each_frame_by_its_weight_and_changes_none() -> None:
    crops = {offset: np.full((16, 16, 3), offset, np.float32) for offset in (0, 1)}
    links = {
        o: Link(np.zeros((16, 16, 2), np.float16), np.full((16, 16), w, np.float16)) for o, w in ((0, 1), (1, 0.5))
    }
    np.testing.assert_allclose(average_crops(crops, links), 0.5 / 1.5, rtol=1e-5)
    assert not crops[0].any()


def test_frames_far_away_count_less_and_so_do_all_where_there_is_little_noise() -> None:
    shown = {offset: _shown(offset) for offset in NEAR}
    largest = []
    for noise in (8, 0.35):
        views = {offset: view_of(frame, PLACE, 256) for offset, frame in _noisy(shown, noise).items()}
        links = links_of(views, 2.0)
        largest.append(max(float(link.weight.max()) / gaussian(other, 2.0) for other, link in links.items() if other))
    assert largest[0] == pytest.approx(1, abs=0.01)
    assert largest[1] < 0.95


def test_ways_begin_where_contours_are_without_their_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    views = {o: view_of(frame, PLACE, 256) for o, frame in _noisy({o: _shown(o) for o in (-1, 0, 1)}).items()}
    found = []
    for offset in ((0.0, 0.0), (1.0, -0.5)):
        moved = np.broadcast_to(np.float32(offset), (256, 256, 2))
        monkeypatch.setattr(temporal, "jitter", lambda *_, moved=moved: moved)
        found.append(links_of(views, 2.0))
    still, corrected = found
    for other in views:
        change = corrected[other].flow.astype(np.float32) - still[other].flow
        np.testing.assert_allclose(change, np.broadcast_to(np.float32((-1, 0.5)), change.shape), atol=0.02)


def test_flows_do_not_depend_on_threads() -> None:
    frames = _noisy({offset: _shown(offset) for offset in (0, 1)})
    views = {offset: view_of(frame, PLACE, 256) for offset, frame in frames.items()}
    threads = cv2.getNumThreads()
    found = []
    try:
        for count in (1, 2, 4):
            cv2.setNumThreads(count)
            found.append(links_of(views, 2.0)[1])
            assert cv2.getNumThreads() == count
    finally:
        cv2.setNumThreads(threads)
    assert all(np.array_equal(found[0].flow, one.flow) and np.array_equal(found[0].weight, one.weight) for one in found)


def test_gaussian() -> None:
    assert gaussian(0, 0) == 1
    assert gaussian(1, 0) == 0
    assert gaussian(2, 2) == pytest.approx(np.exp(-0.5))
