"""The ledger: compare-and-swap, the chain, and what it says when it cannot be used."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from components.core.errors import CheckError, ImlError, InputError, UnavailableError
from components.registry.chain import GENESIS, Event, LedgerHead, Row, digest, problems
from components.registry.ledger import Entry, Ledger


def entry(event: Event, version: int, **more: Any) -> Entry:
    values: dict[str, Any] = {"actor": "ann", "reason": "because", "evidence": {"f1": 0.5}}
    return Entry("m", event, version, **{**values, **more})


def filled(url: str) -> Ledger:
    """Five rows: version 1 promoted, version 2 after it."""
    ledger = Ledger(url)
    ledger.append(entry(Event.REGISTERED, 1))
    ledger.append(entry(Event.GATED, 1))
    ledger.append(entry(Event.PROMOTED, 1))
    ledger.append(entry(Event.REGISTERED, 2))
    ledger.append(entry(Event.PROMOTED, 2, expected_champion=1))
    return ledger


def change(url: str, statement: str) -> None:
    """Write past the ledger, as the owner of the database's server could."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET session_replication_role = replica")  # no triggers
        assert connection.exec_driver_sql(statement).rowcount == 1
    engine.dispose()


def test_rows_are_chained_and_name_the_champion(ledger_url: str) -> None:
    ledger = filled(ledger_url)
    rows = ledger.verify("m")
    assert [row.sequence for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0].previous_hash == GENESIS
    assert [row.previous_hash for row in rows[1:]] == [row.hash for row in rows[:-1]]
    assert ledger.champion("m") == 2
    assert rows[-1].previous_champion == 1
    assert rows[0].facts() == {"f1": 0.5}
    assert rows[0].time.endswith("+00:00")
    assert ledger.rows("another") == []
    assert ledger.champion("another") is None


def test_a_rollback_names_the_earlier_champion(ledger_url: str) -> None:
    ledger = filled(ledger_url)
    ledger.append(entry(Event.ROLLED_BACK, 1, expected_champion=2))
    assert ledger.champion("m") == 1
    ledger.verify("m")


def test_another_event_names_no_champion(ledger_url: str) -> None:
    ledger = filled(ledger_url)
    ledger.append(entry(Event.REJECTED, 3))
    ledger.append(entry(Event.GATED, 3))
    assert ledger.champion("m") == 2


def test_a_promotion_against_an_old_champion_is_refused(ledger_url: str) -> None:
    ledger = filled(ledger_url)
    for stale in (None, 1):
        with pytest.raises(CheckError, match="the champion is now 2"):
            ledger.append(entry(Event.PROMOTED, 3, expected_champion=stale))
    assert len(ledger.verify("m")) == 5


def test_a_decision_on_an_old_row_is_refused(ledger_url: str) -> None:
    ledger = filled(ledger_url)
    with pytest.raises(CheckError, match="moved on to row 5"):
        ledger.append(entry(Event.GATED, 2, expected_sequence=4))
    assert ledger.append(entry(Event.GATED, 2, expected_sequence=5)).sequence == 6


def test_models_have_chains_of_their_own(ledger_url: str) -> None:
    ledger = filled(ledger_url)
    other = Entry("n", Event.PROMOTED, 9, "ann", "because", {})
    assert ledger.append(other).sequence == 1  # who appends has looked whether it is registered
    assert (ledger.champion("m"), ledger.champion("n")) == (2, 9)


EDITS = {
    "event": "'rejected'",
    "version": "7",
    "time": "'2020-01-01T00:00:00+00:00'",
    "actor": "'bob'",
    "reason": "'none'",
    "evidence": "'{\"f1\":0.9}'",
    "previous_champion": "7",
    "previous_hash": f"'{'1' * 64}'",
    "hash": f"'{'1' * 64}'",
}


@pytest.mark.parametrize("column", sorted(EDITS))
@pytest.mark.parametrize("sequence", [1, 3, 5])
def test_an_edited_row_is_named(tmp_path: Path, column: str, sequence: int) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = filled(url)
    change(url, f"UPDATE ledger SET {column} = {EDITS[column]} WHERE sequence = {sequence}")
    with pytest.raises(CheckError, match=rf"row {sequence} .*was edited"):
        ledger.verify("m")


@pytest.mark.parametrize("sequence", [1, 2, 3, 4])
def test_a_deleted_row_is_named(ledger_url: str, sequence: int) -> None:
    ledger = filled(ledger_url)
    change(ledger_url, f"DELETE FROM ledger WHERE sequence = {sequence}")
    with pytest.raises(CheckError, match=f"row {sequence} is missing"):
        ledger.verify("m")


def test_a_cut_end_is_seen_by_the_witness(ledger_url: str) -> None:
    ledger = filled(ledger_url)
    last = ledger.rows("m")[-1]
    ledger_head = LedgerHead.parse(f"{last.sequence}:{last.hash}")
    ledger.verify("m", ledger_head)
    change(ledger_url, "DELETE FROM ledger WHERE sequence = 5")
    ledger.verify("m")  # alone, the chain is whole
    with pytest.raises(CheckError, match="rows after 4 are missing"):
        ledger.verify("m", ledger_head)


def forge(row: Row, **changes: Any) -> Row:
    """A row whose own hash is right."""
    values = {**row.__dict__, **changes}
    return Row(**{**values, "hash": digest(values)})


def test_an_inserted_row_is_named(tmp_path: Path) -> None:
    rows = filled(f"sqlite:///{tmp_path}/ledger.db").rows("m")
    put = forge(rows[2], sequence=4, previous_hash=rows[2].hash, previous_champion=1)
    later = [forge(row, sequence=row.sequence + 1) for row in rows[3:]]
    assert problems([*rows[:3], put, *later])[0].startswith("row 5 (registered version 2) does not")


def test_a_rewritten_chain_is_seen_by_the_witness(tmp_path: Path) -> None:
    rows = filled(f"sqlite:///{tmp_path}/ledger.db").rows("m")
    ledger_head = LedgerHead(5, rows[-1].hash)
    chain = [forge(rows[0], actor="bob")]
    for row in rows[1:]:
        chain.append(forge(row, previous_hash=chain[-1].hash))
    assert problems(chain) == []
    assert problems(chain, ledger_head) == ["row 5 is not the one that the registry has seen"]


def test_a_chain_with_a_false_succession_is_named(tmp_path: Path) -> None:
    rows = filled(f"sqlite:///{tmp_path}/ledger.db").rows("m")
    false = forge(rows[4], previous_champion=None)
    assert "which was 1" in problems([*rows[:4], false])[0]


def test_a_champion_that_was_never_registered_or_never_champion_is_named(tmp_path: Path) -> None:
    ledger = filled(f"sqlite:///{tmp_path}/ledger.db")
    ledger.append(entry(Event.REGISTERED, 3))
    ledger.append(entry(Event.REJECTED, 3))
    rows = ledger.verify("m")
    # One row more, well formed, as who may write to the table can add it.
    more = {"sequence": 8, "previous_hash": rows[-1].hash, "previous_champion": 2}
    back = forge(rows[4], **more, event="rolled_back")
    assert problems([*rows, forge(back, version=1)]) == []
    assert problems([*rows, forge(back, version=3)]) == [
        "row 8 (rolled_back version 3) returns to a version that was never champion"
    ]
    for event in ("promoted", "rolled_back"):
        assert problems([*rows, forge(back, event=event, version=4)]) == [
            f"row 8 ({event} version 4) promotes a version that was never registered"
        ]


@pytest.mark.parametrize("text", ["garbage", "0:", "x:y", "-1:abc"])
def test_a_garbled_witness_matches_nothing(tmp_path: Path, text: str) -> None:
    with pytest.raises(CheckError):
        filled(f"sqlite:///{tmp_path}/ledger.db").verify("m", LedgerHead.parse(text))


@pytest.mark.parametrize(
    "changes",
    [
        {"reason": ""},
        {"reason": "  "},
        {"reason": "two\nlines"},
        {"actor": "nul\x00"},
        {"actor": "\udc80"},
        {"evidence": {"f1": float("nan")}},
        {"evidence": {"f1": float("inf")}},
        {"evidence": {"path": Path()}},
        {"evidence": {"text": "\udc80"}},
    ],
)
def test_what_cannot_be_recorded_is_refused(ledger_url: str, changes: dict[str, Any]) -> None:
    ledger = Ledger(ledger_url)
    with pytest.raises(InputError):
        ledger.append(entry(Event.GATED, 1, **changes))
    assert ledger.rows("m") == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://u:hunter2@host/db", "'mysql' databases are not supported"),
        ("hunter2", "not a database URL"),
        ("postgresql://u:hunter2@host:port/db", "not a database URL"),
        ("sqlite:////proc/none/ledger.db", "/proc/none"),
        ("sqlite:////etc/passwd", "not a database"),
    ],
)
def test_an_unusable_address_is_one_line_without_secrets(url: str, said: str) -> None:
    refused(InputError, url, said)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:hunter2@127.0.0.1:9/db", "127.0.0.1"),
        ("postgresql://u@127.0.0.1:9/db?password=hunter2", "127.0.0.1"),
        ("postgresql://u:hunter2@/db?host=/nowhere", "does not answer"),
    ],
)
def test_a_database_that_is_away_may_come_back(url: str, said: str) -> None:
    refused(UnavailableError, url, said)


def refused(kind: type[ImlError], url: str, said: str) -> None:
    with pytest.raises(kind) as caught:
        Ledger(url)
    assert said in caught.value.line()
    assert "\n" not in caught.value.line()
    assert "hunter2" not in caught.value.line()
    assert caught.value.__cause__ is None


def test_a_wrong_password_is_not_repeated(database: str) -> None:
    with pytest.raises(InputError) as caught:
        Ledger(database.replace("://iml:s3cr3t-of-the-tests", "://iml:hunter2"))
    assert "password authentication failed" in caught.value.line()
    assert "hunter2" not in caught.value.line()


def test_the_address_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IML_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("IML_LEDGER_URL", raising=False)
    filled("")
    assert (tmp_path / "state/ledger.db").is_file()
    monkeypatch.setenv("IML_LEDGER_URL", f"sqlite:///{tmp_path}/other.db")
    assert Ledger().rows("m") == []


def test_a_dump_restores_to_a_ledger_that_goes_on(
    make_database: Callable[[], str], postgres_programs: Path
) -> None:
    url, restored = make_database(), make_database()
    rows = filled(url).verify("m")
    dump = subprocess.run(
        [postgres_programs / "pg_dump", url], capture_output=True, check=True, timeout=60
    ).stdout
    subprocess.run(
        [postgres_programs / "psql", "--quiet", "--set=ON_ERROR_STOP=1", restored],
        input=dump, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    ledger = Ledger(restored)
    assert ledger.verify("m") == rows
    assert ledger.append(entry(Event.ROLLED_BACK, 1, expected_champion=2)).sequence == 6
    assert len(ledger.verify("m")) == 6
