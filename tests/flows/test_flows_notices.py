"""What people are told of a run's outcome, also of one that another run had begun."""

from __future__ import annotations

import pytest

from flows import notify
from flows.pipeline import Outcome, _notify


def outcome(*, promoted: bool, awaiting: bool, replaced: int | None = None) -> Outcome:
    return Outcome([], "m", 2, False, [], promoted, replaced, awaiting, "so it is")


@pytest.mark.parametrize(
    ("came", "new", "told"),
    [
        (outcome(promoted=True, awaiting=False), True, ["promoted"]),
        (outcome(promoted=True, awaiting=False), False, []),
        (outcome(promoted=True, awaiting=False, replaced=1), False, ["promoted"]),
        (outcome(promoted=False, awaiting=True), True, ["awaiting approval"]),
        (outcome(promoted=False, awaiting=True), False, []),
        (outcome(promoted=False, awaiting=False), True, ["rejected"]),
        (outcome(promoted=False, awaiting=False), False, []),
    ],
)
def test_people_are_told_once_of_what_is_new(
    came: Outcome, new: bool, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(notify, "send", lambda event, _: sent.append(event))
    _notify(came, new=new)
    assert sent == told
