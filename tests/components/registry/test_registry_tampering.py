"""Every tampering with a version is refused at load, at promotion and when it is shown."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from registry_support import BY_PEOPLE, evidence, fill, packages

from components.errors import CheckError
from components.files import sha256_json
from components.registry import chain
from components.registry.approval import approve
from components.registry.copies import fetch, inspect
from components.registry.evidence import attest
from components.registry.ledger import Ledger
from components.registry.promotion import decide_and_promote
from components.registry.registration import register
from components.registry.rollback import rollback
from components.registry.tracking import Store
from components.registry.versions import Registry, registration

Tamper = Callable[[Path], None]


@pytest.fixture(scope="module")
def made(
    empty_store: Path, keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """State folder: version 1 was champion, 2 is, 3 waits for approval. Beside it, a copy."""
    root = tmp_path_factory.mktemp("tampering")
    state = root / "state"
    (state / "mlflow").mkdir(parents=True)
    shutil.copy(empty_store, state / "mlflow/mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"IML_STATE": str(state), **keys}.items():
            patch.setenv(name, value)
        registry = Registry(Ledger(), Store(), "m")
        fill(registry, root)
        register(registry, packages(root)("c"), clean=True, actor="ann")
        assert decide_and_promote(registry, 3, evidence(2), BY_PEOPLE, actor="ann").awaiting
        shutil.copytree(state, root / "whole")
        yield state


@pytest.fixture
def state(made: Path, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder as it was made."""
    whole = made.parent / "whole"
    shutil.rmtree(made / "mlflow/artifacts")
    shutil.copytree(whole / "mlflow/artifacts", made / "mlflow/artifacts")
    shutil.rmtree(made / "cache", ignore_errors=True)
    for name in ("ledger.db", "mlflow/mlflow.db"):
        # In place: MLflow keeps the file open.
        shutil.copyfile(whole / name, made / name)
    for name, value in {"IML_STATE": str(made), **keys}.items():
        monkeypatch.setenv(name, value)
    return made


def folder(state: Path, content: str) -> Path:
    """A version's folder in MLflow's artifacts, by what its student says."""
    for path in (state / "mlflow/artifacts").rglob("artifacts/student.json"):
        if path.read_text().startswith(content):
            return path.parents[1]
    raise AssertionError(content)


def signatures(state: Path) -> dict[str, Path]:
    """Where each version's signature lies, by version."""
    runs = {r.version: r.facts()["run_id"] for r in Ledger().rows("m") if r.event == "registered"}
    found = state / "mlflow/artifacts/m"
    return {str(n): found / run / "artifacts/version.sig" for n, run in runs.items()}


def edit(name: str) -> Tamper:
    def tamper(state: Path) -> None:
        for content in "abc":
            path = folder(state, content) / name
            path.write_bytes(path.read_bytes() + b" ")

    return tamper


def add_code(state: Path) -> None:
    for content in "abc":
        (folder(state, content) / "code/components/sitecustomize.py").write_text("print(1)")


def remove(state: Path) -> None:
    for content in "abc":
        (folder(state, content) / "artifacts/student.onnx").unlink()


def swap_signatures(state: Path) -> None:
    found = signatures(state)
    texts = {name: path.read_text() for name, path in found.items()}
    for name, path in found.items():
        path.write_text(texts["1" if name != "1" else "2"])


def no_signature(state: Path) -> None:
    for path in signatures(state).values():
        path.unlink()


def sign_again(state: Path) -> None:
    """The attacker changes the weights and signs the folder with a key that is trusted here."""
    from components.registry import signing

    for content, path in zip("abc", signatures(state).values(), strict=True):
        (folder(state, content) / "artifacts/student.safetensors").write_text("evil")
        signing.sign(folder(state, content), path)


def other_source(state: Path) -> None:
    with closing(sqlite3.connect(state / "mlflow/mlflow.db")) as database, database:
        rows = database.execute("SELECT version, source, storage_location FROM model_versions")
        known = {version: places for version, *places in rows}
        for version in known:
            source, place = known[1 if version != 1 else 2]
            database.execute(
                "UPDATE model_versions SET source=?, storage_location=? WHERE version=?",
                (source, place, version),
            )


@pytest.mark.parametrize(
    "tamper",
    [
        edit("artifacts/student.safetensors"),
        edit("lineage/record.json"),
        edit("code/components/serving/predictor.py"),
        add_code,
        remove,
        swap_signatures,
        no_signature,
        sign_again,
        other_source,
    ],
    ids=["weights", "record", "code", "added", "removed",
         "swapped", "unsigned", "signed again", "source"],
)  # fmt: skip
def test_a_tampered_version_is_refused_everywhere(state: Path, tamper: Tamper) -> None:
    tamper(state)
    registry = Registry(Ledger(), Store(), "m")
    born = registration(registry.rows(), 3)
    for action in (
        lambda: fetch("m@champion"),
        lambda: inspect(registry, 3, born.facts()),  # `iml model show`
        lambda: approve(registry, 3, BY_PEOPLE, actor="bob", reason="fine"),
        lambda: rollback(registry, 1, actor="bob", reason="because"),
    ):
        with pytest.raises(CheckError, match=r"^m/\d: "):
            action()
    found = attest(registry, 3, born.facts())  # what the gate `signature_valid` judges
    assert (found.signer, found.record) == (None, None)
    assert found.problem.startswith("m/3: ")
    assert registry.ledger.champion("m") == registry.store.alias("m") == 2


def rehash(state: Path, change: Callable[[dict], None], *, chained: bool) -> None:
    """Change the evidence of row 4 (version 2's registration) and take hashes anew."""
    with closing(sqlite3.connect(state / "ledger.db")) as database, database:
        database.row_factory = sqlite3.Row
        before = None
        for found in database.execute("SELECT * FROM ledger ORDER BY sequence").fetchall():
            row = dict(found)
            if row["sequence"] == 4:
                facts = json.loads(row["evidence"])
                change(facts)
                row["evidence"] = json.dumps(facts, sort_keys=True, separators=(",", ":"))
            if chained and before:
                row["previous_hash"] = before
            if row["sequence"] == 4 or (chained and row["sequence"] > 4):
                row["hash"] = chain.digest(row)
            before = row["hash"]
            database.execute(
                "UPDATE ledger SET evidence=?, previous_hash=?, hash=? WHERE sequence=?",
                (row["evidence"], row["previous_hash"], row["hash"], row["sequence"]),
            )


def sql(statement: str) -> Tamper:
    def tamper(state: Path) -> None:
        with closing(sqlite3.connect(state / "ledger.db")) as database, database:
            database.execute(statement)

    return tamper


def other_hash(facts: dict) -> None:
    facts["signature_sha256"] = sha256_json("evil")


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (sql("UPDATE ledger SET reason='x' WHERE sequence=3"), "row 3 .* was edited"),
        (sql("UPDATE ledger SET version=3 WHERE sequence=6"), "row 6 .* was edited"),
        (sql("DELETE FROM ledger WHERE sequence=2"), "row 2 is missing"),
        (sql("DELETE FROM ledger WHERE sequence=8"), "rows after 7 are missing"),
        (lambda state: rehash(state, other_hash, chained=False), "does not follow"),
        (lambda state: rehash(state, other_hash, chained=True), "the registry has seen"),
    ],
    ids=["reason", "version", "deleted", "cut off", "hash of one row", "whole chain"],
)
def test_a_tampered_ledger_is_refused_everywhere(state: Path, tamper: Tamper, said: str) -> None:
    tamper(state)
    registry = Registry(Ledger(), Store(), "m")
    for action in (
        lambda: fetch("m@champion"),
        registry.rows,  # `iml model list` and `show` begin with it
        lambda: approve(registry, 3, BY_PEOPLE, actor="bob", reason="fine"),
        lambda: rollback(registry, 1, actor="bob", reason="because"),
    ):
        with pytest.raises(CheckError, match=said):
            action()


def test_what_was_not_tampered_with_is_accepted(state: Path) -> None:
    registry = Registry(Ledger(), Store(), "m")
    assert fetch("m@champion").is_dir()
    assert approve(registry, 3, BY_PEOPLE, actor="bob", reason="fine").version == 3
    assert rollback(registry, 1, actor="bob", reason="because").version == 1
