from __future__ import annotations

from pathlib import Path

from components.ingest import outcomes
from components.ingest.outcomes import Outcome


def test_the_summary_has_a_line_for_each_reason() -> None:
    rows = [
        Outcome("x.txt", "left out", "not a file of this format"),
        Outcome("a.jpg", "taken"),
        Outcome("b.jpg", "noted", "mask is mostly white: 61%"),
        Outcome("c.jpg", "noted", "mask is mostly white: 87%"),
        Outcome("d.jpg", "left out", "mask is 10x10 but the photo is 96x64: d.png"),
        Outcome("e.jpg", "left out", "mask is 11x10 but the photo is 32x-2.5: e.png"),
    ]
    assert outcomes.summary(rows) == [
        ("taken", 1, "", "a.jpg"),
        ("noted", 2, "mask is mostly white: 61%", "b.jpg"),
        ("left out", 2, "mask is 10x10 but the photo is 96x64: d.png", "d.jpg"),
        ("left out", 1, "not a file of this format", "x.txt"),
    ]


def test_rows_are_added_once(tmp_path: Path) -> None:
    path = tmp_path / "import.csv"
    first = [Outcome('a,"b".jpg', "taken"), Outcome("b.jpg", "left out", "one\nline")]
    outcomes.add(path, first)
    before = path.read_bytes()
    outcomes.add(path, first)
    assert path.read_bytes() == before
    outcomes.add(path, [Outcome("c.jpg", "taken")])
    assert path.read_bytes() == before + b"c.jpg,taken,\n"
