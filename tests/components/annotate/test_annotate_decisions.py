"""What is kept on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from annotate_support import decision

from components.annotate.decisions import Decisions
from components.core.errors import InputError


def test_a_later_decision_replaces_the_same_persons(tmp_path: Path) -> None:
    decisions = Decisions(tmp_path)
    decisions.write(decision("a.jpg", "Ada", mark="authentic"))
    decisions.write(decision("a.jpg", "Ben", mark="authentic"))
    decisions.write(decision("a.jpg", "Ada", mark="cannot tell"))
    again = Decisions(tmp_path)
    assert len(list(tmp_path.iterdir())) == len(again.all()) == 2
    assert again.get("a.jpg", "Ada").mark == "cannot tell"


def test_names_never_become_paths(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    Decisions(folder).write(decision("../../x.jpg", "../Ada/é"))
    assert [path.parent for path in tmp_path.rglob("*.json")] == [folder]
    assert Decisions(folder).all()[0].annotator == "../Ada/é"


@pytest.mark.parametrize("row", [{"schema": 2}, {"schema": 1, "photo": "a"}, []])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, row: object) -> None:
    (tmp_path / "a.json").write_text(json.dumps(row))
    with pytest.raises(InputError, match=r"a\.json: not a decision"):
        Decisions(tmp_path)
