"""Who gets which photo."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from annotate_support import decision

from components.annotate.decisions import Decisions
from components.annotate.desk import Desk

NAMES = [f"{number}.jpg" for number in range(200)]


def decide_all(desk: Desk, annotator: str) -> list[int]:
    """Everything that a person is given, decided at once."""
    photos = []
    while place := desk.open(annotator):
        desk.decided(annotator, place.photo)
        photos.append(place.photo)
    return photos


def test_no_photo_goes_to_two_people_who_ask_at_once(tmp_path: Path) -> None:
    desk = Desk(NAMES, Decisions(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        shares = list(pool.map(lambda name: decide_all(desk, name), "abcdefgh"))
    assert sorted(photo for share in shares for photo in share) == list(range(200))
    assert desk.left() == 0


def test_a_share_goes_to_two_people_always_the_same(tmp_path: Path) -> None:
    desk = Desk(NAMES, Decisions(tmp_path), overlap=0.25)
    first, second = decide_all(desk, "Ada"), decide_all(desk, "Ben")
    assert len(first) == 200
    assert 0.15 < len(second) / 200 < 0.35
    assert desk.left() == 0
    assert decide_all(desk, "Cem") == []
    again = Desk(NAMES, Decisions(tmp_path), overlap=0.25)
    decide_all(again, "Cem")
    assert decide_all(again, "Dan") == second


def test_what_is_left_undecided_goes_back_after_a_while(tmp_path: Path) -> None:
    now = [0.0]
    desk = Desk(NAMES[:2], Decisions(tmp_path), clock=lambda: now[0])
    assert desk.open("Ada").photo == 0
    assert desk.open("Ben").photo == 1
    assert desk.open("Cem") is None
    now[0] = 600
    desk.stays("Ben", 1)
    now[0] = 1000
    assert desk.open("Cem").photo == 0
    assert desk.open("Ada", 0).photo == 0  # it was hers: she may still look at it
    assert desk.open("Dan") is None


def test_back_and_on_along_ones_own_way(tmp_path: Path) -> None:
    desk = Desk(NAMES[:3], Decisions(tmp_path))
    for photo in range(2):
        desk.decided("Ada", desk.open("Ada").photo)
        assert desk.open("Ada", photo).photo == photo
    assert desk.open("Ada", -5).photo == 0
    assert desk.open("Ada", 2).photo == 2
    assert desk.open("Ada", 3).photo == 2  # nothing new: the one that is undecided
    desk.decided("Ada", 2)
    assert desk.open("Ada", 3) is None
    assert desk.open("Ada", 2).photo == 2


def test_everybody_goes_on_where_they_were(tmp_path: Path) -> None:
    decisions = Decisions(tmp_path)
    decisions.write(decision("1.jpg", "Ada", decided_at="2026-01-01T00:00:00+00:00"))
    decisions.write(decision("0.jpg", "Ada", decided_at="2026-01-02T00:00:00+00:00"))
    desk = Desk(NAMES[:4], Decisions(tmp_path))
    assert [desk.open("Ada", n).photo for n in range(3)] == [1, 0, 2]
    assert desk.open("Ben").photo == 3
