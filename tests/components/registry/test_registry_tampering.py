"""Every tampering with a version is refused at load, at promotion and when it is shown."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from registry_support import BY_PEOPLE, evidence, fill, packages

from components.core.errors import CheckError, EvidenceError
from components.core.files import sha256_json
from components.registry import chain
from components.registry.alias import reconcile
from components.registry.downloads import check, fetch, verify_download
from components.registry.evidence import attest
from components.registry.ledger import Ledger
from components.registry.promotion import approve, decide_and_promote, register, rollback
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
        # By SQLite's own means: MLflow keeps the file open, and pages of it.
        with (
            closing(sqlite3.connect(whole / name)) as old,
            closing(sqlite3.connect(made / name)) as now,
        ):
            old.backup(now)
    shutil.rmtree(made / "trust", ignore_errors=True)
    shutil.copytree(keys["IML_TRUSTED_KEYS"], made / "trust")
    own = {"IML_STATE": str(made), "IML_TRUSTED_KEYS": str(made / "trust")}
    for name, value in {**keys, **own}.items():
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


def sql(statement: str, name: str = "ledger.db") -> Tamper:
    def tamper(state: Path) -> None:
        with closing(sqlite3.connect(state / name)) as database, database:
            database.execute(statement)

    return tamper


def mlflow(statement: str) -> Tamper:
    return sql(statement, "mlflow/mlflow.db")


def no_key(state: Path) -> None:
    for path in (state / "trust").iterdir():
        path.unlink()


def other_key(state: Path) -> None:
    """Another public key under the name of the trusted one."""
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    for path in (state / "trust").iterdir():
        path.write_bytes(public.public_bytes(encoding, form))


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
        mlflow("DELETE FROM model_versions"),
        mlflow("UPDATE runs SET lifecycle_stage='deleted', artifact_uri='/nowhere'"),
    ],
    ids=["weights", "record", "code", "added", "removed", "swapped", "unsigned", "signed again",
         "source", "no version", "no run"],
)  # fmt: skip
def test_a_tampered_version_is_refused_everywhere(state: Path, tamper: Tamper) -> None:
    tamper(state)
    registry = Registry(Ledger(), Store(), "m")
    born = registration(registry.rows(), 3)
    for action in (
        lambda: fetch("m@champion"),
        lambda: verify_download(registry, 3, born.facts()),  # `iml model show`
        lambda: approve(registry, 3, BY_PEOPLE, actor="bob", reason="fine"),
        lambda: rollback(registry, 1, actor="bob", reason="because"),
    ):
        with pytest.raises(CheckError, match=r"^m/\d: "):
            action()
    found = attest(registry, 3, born.facts())  # what the gate `signature_valid` judges
    assert (found.signer, found.record) == (None, None)
    assert found.problem.startswith("m/3: ")
    assert registry.ledger.champion("m") == registry.store.alias("m") == 2


@pytest.mark.parametrize(
    ("tamper", "message"),
    [(no_key, "row 1 .* is not trusted here"), (other_key, "does not match its file name")],
)
def test_without_the_signers_key_the_ledger_is_not_believed(
    state: Path, tamper: Tamper, message: str
) -> None:
    registry = Registry(Ledger(), Store(), "m")
    born = registration(registry.rows(), 3)
    tamper(state)
    for action in (
        registry.rows,
        lambda: fetch("m@champion"),
        lambda: approve(registry, 3, BY_PEOPLE, actor="bob", reason="fine"),
        lambda: rollback(registry, 1, actor="bob", reason="because"),
    ):
        with pytest.raises(EvidenceError, match=message) as said:
            action()
        assert said.value.where
        assert str(state / "trust") in said.value.where
    with pytest.raises(CheckError, match=r"^m/3: "):
        verify_download(registry, 3, born.facts())
    assert attest(registry, 3, born.facts()).signer is None


def test_no_file_of_a_version_can_be_changed(
    state: Path, campaigns: bool, record_property: Callable[[str, object], None]
) -> None:
    """What load, gates, approval, rollback and show all begin with refuses a bit in any file."""
    registry = Registry(Ledger(), Store(), "m")
    born = registration(registry.rows(), 2)
    with TemporaryDirectory(dir=state) as copy:
        registry.store.download("m", 2, born.facts()["run_id"], Path(copy))
        check(Path(copy), born.facts(), "m/2")
        files = sorted(path for path in Path(copy).rglob("*") if path.is_file())
        assert len(files) > 20
        chosen = files if campaigns else random.Random(3).sample(files, 12)
        record_property("files with a bit changed", len(chosen))
        for path in chosen:
            whole = path.read_bytes()
            path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:] if whole else b"x")
            with pytest.raises(CheckError, match=r"^m/2: .*(since it was signed|registered)"):
                check(Path(copy), born.facts(), "m/2")
            path.write_bytes(whole)
        check(Path(copy), born.facts(), "m/2")


ALIASES = {
    "moved": "UPDATE registered_model_aliases SET version=1",
    "to the waiting one": "UPDATE registered_model_aliases SET version=3",
    "removed": "DELETE FROM registered_model_aliases",
}


@pytest.mark.parametrize("statement", ALIASES.values(), ids=ALIASES)
def test_a_tampered_alias_misleads_nobody_and_is_named(state: Path, statement: str) -> None:
    mlflow(statement)(state)
    registry = Registry(Ledger(), Store(), "m")
    assert registry.store.alias("m") != 2
    assert (fetch("m@champion").folder / "student.json").read_text().startswith("b")
    (note,) = reconcile(registry)  # what list, show, approve and rollback begin with
    assert note.startswith("the alias champion of m pointed at version")
    assert note.endswith("the ledger says 2: it was moved by hand; corrected")
    assert registry.store.alias("m") == 2


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
        (mlflow("UPDATE registered_model_tags SET value='1:x'"), "the registry has seen"),
        (mlflow("DELETE FROM registered_model_tags"), "where the ledger of m .* ends is missing"),
    ],
    ids=[
        "reason",
        "version",
        "deleted",
        "cut off",
        "hash of one row",
        "whole chain",
        "witness",
        "no witness",
    ],
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
    assert fetch("m@champion").folder.is_dir()
    assert approve(registry, 3, BY_PEOPLE, actor="bob", reason="fine").version == 3
    assert rollback(registry, 1, actor="bob", reason="because").version == 1
