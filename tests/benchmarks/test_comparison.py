"""Ours is compared with the rivals of its bits and training, over the faces that both restored."""

from __future__ import annotations

from comparison import Point, gains, rows


def point(method: str, bits: str, *of_faces: float) -> Point:
    scores = dict.fromkeys(("to_full", "psnr", "ms_ssim"), of_faces) if of_faces else {}
    return Point(method, bits, 4, 4, 10, 5, 60, 30, 24, 0.9, scores)


def test_each_rival_is_compared_with_our_row_of_its_kind() -> None:
    points = [point(method, bits, 1.0, 2.0) for method, bits in rows(["w4a4", "w6a6"])]
    pairs = {(gain.rival, gain.bits): gain.ours for gain in gains(points, 0)}
    assert {rival for rival in pairs if "trained" in rival[0]} == {key for key in pairs if "trained" in pairs[key]}
    assert pairs["MaxMin", "w4a4"] == pairs["MaxMin", "w6a6"] == "ours"
    assert [ours for (rival, bits), ours in pairs.items() if bits == "3.98"] == ["ours, allocated, trained"]
    assert {p.method for p in points} - {rival for rival, _ in pairs} == {
        "ours",
        "ours, allocated",
        "ours, trained",
        "ours, allocated, trained",
    }


def test_a_gain_is_ours_less_the_rival_s_face_by_face() -> None:
    (gain,) = gains([point("MaxMin", "w4a4", 30.0, 10.0), point("ours", "w4a4", 31.0, 11.0)], 0)
    assert (gain.to_full.mean, gain.psnr.low, gain.ms_ssim.high) == (1.0, 1.0, 1.0)


def test_rows_that_were_kept_without_their_faces_are_left_out() -> None:
    assert gains([point("MaxMin", "w4a4"), point("ours", "w4a4", 31.0, 11.0)], 0) == []
