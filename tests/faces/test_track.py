"""Faces followed through frames: steadier, without lag, without gaps."""

from __future__ import annotations

import numpy as np
import pytest

from quantface_core.errors import UsageError
from quantface_core.faces import tracklet
from quantface_core.faces.boxes import face_in_box
from quantface_core.faces.track import Tracker, smooth_tracks
from quantface_core.types import Face


def _at(x: float, y: float = 40.0, size: float = 60.0) -> Face:
    return face_in_box((x, y, size, size * 1.5))


def _moved(face: Face, by: np.ndarray) -> Face:
    return Face(face.box, tuple(map(tuple, (np.array(face.landmarks) + by).tolist())), face.score)


def _landmarks(frames: list[tuple[Face, ...]]) -> np.ndarray:
    return np.array([[face.landmarks for face in faces] for faces in frames])


def test_trembling_is_smoothed_and_a_moving_head_does_not_lag() -> None:
    draws = np.random.default_rng(0)
    exact = [[_at(20 + 3.0 * t)] for t in range(30)]
    seen = [[_moved(faces[0], draws.normal(0, 1, (5, 2)))] for faces in exact]
    truth, before, after = (
        _landmarks([tuple(f) for f in frames]) for frames in (exact, seen, smooth_tracks(seen, 2.0))
    )
    assert np.abs(after - truth).mean() < 0.6 * np.abs(before - truth).mean()
    assert np.abs((after - truth).mean(axis=(0, 1, 2))).max() < 0.3  # no lag in x, where it moves
    np.testing.assert_allclose(_landmarks(smooth_tracks(exact, 2.0)), truth, atol=1e-6)  # a straight way stays


def test_a_short_gap_is_closed_and_a_long_one_is_not() -> None:
    frames = [[_at(50.0 + t)] for t in range(16)]
    frames[4] = []
    frames[8:14] = [[]] * 6
    counts = [len(faces) for faces in smooth_tracks(frames, 1.0)]
    assert counts[4] == 1
    assert counts[8:14] == [0] * 6


def test_two_people_stay_apart_in_any_order() -> None:
    frames = [[_at(10.0 + t), _at(200.0 - t)][:: 1 if t % 2 else -1] for t in range(10)]
    left = [min(face.box[0] for face in faces) for faces in smooth_tracks(frames, 2.0)]
    assert [len(faces) for faces in smooth_tracks(frames, 2.0)] == [2] * 10
    np.testing.assert_allclose(left, [10 + t for t in range(10)], atol=1e-6)


def test_a_sudden_move_is_followed() -> None:
    frames = [[_at(50.0 if t < 6 else 80.0)] for t in range(12)]
    moved = _landmarks(smooth_tracks(frames, 3.0)) - _landmarks([tuple(f) for f in frames])
    assert np.abs(moved).max() <= 0.06 * _at(0).size + 1e-9


def test_a_detection_of_low_confidence_is_as_sure_as_those_around_it() -> None:
    scores = [0.6] + [0.9] * 11 + [0.5] + [0.9] * 11
    frames = [[Face(_at(50).box, _at(50).landmarks, score)] for score in scores]
    smoothed = [faces[0].score for faces in smooth_tracks(frames, 2.0)]
    assert min(smoothed) > 0.7
    assert max(smoothed) <= 0.9 + 1e-9
    unsure = smooth_tracks([[Face(_at(50).box, _at(50).landmarks, 0.6)] for _ in scores], 2.0)
    np.testing.assert_allclose([faces[0].score for faces in unsure], 0.6)
    assert [faces[0].score for faces in smooth_tracks(frames, 0)] == scores


def test_nothing_changes_without_smoothing_or_with_one_frame() -> None:
    frames = [[_at(10)], [_at(14)], []]
    assert smooth_tracks(frames, 0) == [tuple(faces) for faces in frames]
    assert smooth_tracks(frames[:1], 2.0) == [tuple(frames[0])]
    with pytest.raises(UsageError, match="smoothing"):
        smooth_tracks(frames, -1)


def _look(value: int) -> np.ndarray:
    return np.random.default_rng(value).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def _ways(sigma: float = 2.0, hidden: range = range(11, 19)) -> list[list[tuple[int, float]]]:
    """(track, x) of two people who cross, the one behind not found while the other hides him."""
    tracker, told = Tracker(sigma), []
    for t in range(30):
        front, behind = _at(10.0 + 6 * t), _at(184.0 - 6 * t)
        there = [(front, _look(1))] + ([] if t in hidden else [(behind, _look(2))])
        told += tracker.update([face for face, _ in there], [appearance for _, appearance in there])
    told += tracker.flush()
    return [[(track, face.box[0]) for track, face in frame] for frame in told]


def test_people_who_cross_are_not_swapped() -> None:
    ways = _ways()
    for t, frame in enumerate(ways):
        assert dict(frame)[0] == pytest.approx(10 + 6 * t, abs=1)
        if t < 11 or t > 18:
            assert dict(frame)[1] == pytest.approx(184 - 6 * t, abs=1)
    assert {track for frame in ways for track, _ in frame} == {0, 1}


def test_who_comes_out_from_behind_another_is_known_once_seen_well() -> None:
    tracker, told = Tracker(2.0), []
    for t in range(30):
        mixed = (_look(1).astype(int) + _look(2)) // 2  # half hidden still
        there = [(_at(10.0 + 6 * t), _look(1))]
        if t not in range(11, 17):
            there.append((_at(184.0 - 6 * t), _look(2) if t not in (17, 18) else mixed.astype(np.uint8)))
        told += tracker.update([face for face, _ in there], [appearance for _, appearance in there])
    told += tracker.flush()
    assert {tracked.track for frame in told for tracked in frame} == {0, 1}


def _half_hidden(look: int, by: int) -> np.ndarray:
    return ((_look(look).astype(int) + _look(by)) // 2).astype(np.uint8)


def _tracks(frames: list[list[tuple[Face, np.ndarray]]]) -> list[dict[int, float]]:
    """Of each frame, x by track."""
    tracker, told = Tracker(2.0), []
    for there in frames:
        told += tracker.update([face for face, _ in there], [look for _, look in there])
    told += tracker.flush()
    return [{track: face.box[0] for track, face in frame} for frame in told]


def test_how_someone_looks_is_not_learned_while_another_is_in_front() -> None:
    alone, mixed = [(_at(50.0), _look(1))], [(_at(50.0), _half_hidden(1, 2)), (_at(80.0), _look(2))]
    tracks = _tracks([alone] * 6 + [mixed] * 14 + [[]] * 10 + [alone] * 8)
    assert tracks[30:] == [{0: pytest.approx(50)}] * 8


def test_who_is_known_again_is_no_false_positive_however_short_the_return() -> None:
    seen, mixed = [(_at(50.0), _look(1))], [(_at(50.0), _half_hidden(1, 2))]
    tracks = _tracks([seen] * 8 + [[]] * 10 + [mixed, seen, seen] + [[]] * 10)
    assert tracks[18:21] == [{0: pytest.approx(50)}] * 3


def test_who_was_shown_as_another_stays_that_one() -> None:
    """A number that was given out is not changed once the face is seen well."""
    seen, mixed = [(_at(50.0), _look(1))], [(_at(50.0), _half_hidden(1, 2))]
    tracks = _tracks([seen] * 8 + [[]] * 10 + [mixed] * 10 + [seen] * 10)
    assert {track for frame in tracks[18:] for track in frame} == {1}


def test_of_two_who_look_alike_the_nearer_is_known_again_and_only_once() -> None:
    twins = [(_at(0.0), _look(1)), (_at(200.0), _look(1))]
    back, later = _at(160.0), _at(220.0, 160.0)  # the later is too far from the other twin
    frames = [twins] * 8 + [[]] * 10 + [[(back, _half_hidden(1, 2))]] + [[(back, _look(1))]] * 6
    frames += [[(back, _look(1)), (later, _half_hidden(1, 2))]] + [[(back, _look(1)), (later, _look(1))]] * 6
    tracks = _tracks(frames)
    assert all(set(frame) == {1} for frame in tracks[18:25])
    assert all(len(frame) == 2 and 0 not in frame and frame[1] == pytest.approx(160) for frame in tracks[25:])


@pytest.mark.parametrize(("back", "tracks"), [(80, {0}), (81, {0, 1})])
def test_who_was_away_for_three_seconds_is_forgotten(back: int, tracks: set[int]) -> None:
    seen = [(_at(50.0), _look(1))]
    told = _tracks([seen] * 6 + [[]] * (back - 6) + [seen] * 6)
    assert {track for frame in told for track in frame} == tracks


def test_nobody_goes_on_after_a_cut_and_strangers_are_new() -> None:
    tracker, told = Tracker(1.0), []
    for t in range(16):
        told += tracker.update([_at(50.0)], [_look(1 if t < 12 else 3)], cut=t == 6)
    told += tracker.flush()
    assert [frame[0].track for frame in told] == [0] * 6 + [1] * 6 + [2] * 4


def test_what_is_a_face_for_a_frame_or_two_is_none() -> None:
    frames = [[_at(50.0), *([_at(200.0)] if t in (7, 8) else [])] for t in range(20)]
    assert [len(faces) for faces in smooth_tracks(frames, 2.0)] == [1] * 20


def test_what_is_a_face_now_and_then_is_none() -> None:
    frames = [[_at(50.0), *([_at(200.0)] if t in (7, 10, 12) else [])] for t in range(20)]
    assert [len(faces) for faces in smooth_tracks(frames, 2.0)] == [1] * 20
    known = [[_at(50.0), *([_at(200.0)] if t in (7, 10, 12, 13) else [])] for t in range(20)]
    assert [len(faces) for faces in smooth_tracks(known, 2.0)][7:14] == [2] * 7


def test_who_is_there_for_the_last_frames_of_a_shot_is_kept() -> None:
    tracker, told = Tracker(2.0), []
    for t in range(16):
        told += tracker.update([_at(50.0), *([_at(200.0)] if t in (6, 7, 14, 15) else [])], cut=t == 8)
    told += tracker.flush()
    assert [len(frame) for frame in told] == [1] * 6 + [2] * 2 + [1] * 6 + [2] * 2


def test_pictures_show_cuts() -> None:
    dark, light = np.zeros((90, 160, 3), np.uint8), np.full((90, 160, 3), 200, np.uint8)
    light[20:60, 30:90] = 0
    frames = [[_at(50.0)] for _ in range(6)] + [[_at(56.0)] for _ in range(6)]
    apart = _landmarks(smooth_tracks(frames, 2.0, [dark] * 6 + [light] * 6))
    np.testing.assert_allclose(apart, _landmarks([tuple(f) for f in frames]), atol=1e-6)
    assert not np.allclose(_landmarks(smooth_tracks(frames, 2.0)), apart)


def test_only_faces_close_enough_are_compared_by_appearance(monkeypatch: pytest.MonkeyPatch) -> None:
    compared, plain = [], tracklet.appearance_similarity
    monkeypatch.setattr(tracklet, "appearance_similarity", lambda *two: compared.append(two) or plain(*two))
    tracker, faces = Tracker(0.0), [_at(200.0 * i) for i in range(10)]
    looks = list(np.random.default_rng(0).integers(0, 255, (10, 8, 8, 3), dtype=np.uint8))
    for _ in range(3):
        (tracked,) = tracker.update(faces, looks)
    assert [one.track for one in tracked] == list(range(10))
    assert len(compared) == 20  # each with its own, in the second frame and the third


def test_boxes_are_compared_pair_by_pair() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [5, 0, 10, 10], [50, 50, 4, 4]])
    np.testing.assert_allclose(tracklet.box_iou(boxes[:, None], boxes), [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]])
