"""Ways to corrupt a project: each does one thing at random and says what an audit must name."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from lineage_support import MODEL, commit, run

from components.registry import signing
from components.registry.chain import Row, digest


class Expected(NamedTuple):
    """A finding on one of `links` must name `named`; no other link may be called broken."""

    links: set[str]
    named: str


Corruption = Callable[[Path, random.Random], Expected]


def flip(path: Path, draw: random.Random) -> None:
    """Flip one bit; the size stays."""
    data = bytearray(path.read_bytes())
    place = draw.randrange(len(data))
    data[place] ^= 1 << draw.randrange(8)
    path.chmod(0o644)
    path.write_bytes(data)


def sql(root: Path, statement: str, *values: object, ledger: bool = False) -> list[tuple]:
    """One statement on MLflow's or the ledger's database."""
    name = ".state/ledger.db" if ledger else ".state/mlflow/mlflow.db"
    with sqlite3.connect(root / name) as database:
        return list(database.execute(statement, values))


def lock(root: Path) -> dict:
    """The stages of dvc.lock at version 1."""
    return yaml.safe_load(run(root, "git", "show", f"model/{MODEL}/v1:dvc.lock"))["stages"]


def objects(root: Path) -> dict[str, Path]:
    """Every object of version 1 in the remote, by what it is."""

    def place(md5: str) -> Path:
        return root / ".state/dvc-remote/files/md5" / md5[:2] / md5[2:]

    found: dict[str, Path] = {}
    for stage in lock(root).values():
        for row in [*stage["outs"], *(d for d in stage["deps"] if d["path"] == "data/made")]:
            found[row["path"]] = place(row["md5"])
            if row["md5"].endswith(".dir"):
                for entry in json.loads(place(row["md5"]).read_text()):
                    found[f"{row['path']}/{entry['relpath']}"] = place(entry["md5"])
    return found


def one_object(root: Path, draw: random.Random, *starts: str) -> tuple[str, Path]:
    return draw.choice([o for o in sorted(objects(root).items()) if o[0].startswith(starts)])


ALL_DATA = {"data", "teacher", "backbone", "validation", "evaluation", "gates"}


def photo_flipped(root: Path, draw: random.Random) -> Expected:
    name, path = one_object(root, draw, "data/made/photos/")
    flip(path, draw)
    return Expected({"data"}, name)


def mask_flipped(root: Path, draw: random.Random) -> Expected:
    name, path = one_object(root, draw, "data/made/masks/", "runs/pseudo_label/masks/")
    flip(path, draw)
    # All the true masks here are one object, under the name of one of them.
    return Expected({"data"}, name.rpartition("/")[0])


def boxes_edited(root: Path, draw: random.Random) -> Expected:
    path = objects(root)["data/made/boxes.json"]
    index = json.loads(path.read_text())
    index["images"][draw.randrange(len(index["images"]))]["label"] = "x"
    path.chmod(0o644)
    path.write_text(json.dumps(index))
    return Expected({"data"}, "data/made")


def licence_edited(root: Path, draw: random.Random) -> Expected:
    path = objects(root)["data/made/dataset.yaml"]
    path.chmod(0o644)
    path.write_text(path.read_text().replace("CC0-1.0", "CC0-9.0"))
    return Expected({"data"}, "data/made")


def listing_edited(root: Path, draw: random.Random) -> Expected:
    name = draw.choice(["data/made", "runs/pseudo_label/masks"])
    path = objects(root)[name]
    rows = json.loads(path.read_text())
    del rows[draw.randrange(len(rows))]
    path.chmod(0o644)
    path.write_text(json.dumps(rows))
    return Expected({"data"}, name)


def output_flipped(root: Path, draw: random.Random) -> Expected:
    name, path = one_object(root, draw, "runs/")
    flip(path, draw)
    return Expected(ALL_DATA, name.partition("/masks/")[0])


def object_deleted(root: Path, draw: random.Random) -> Expected:
    _, path = one_object(root, draw, "data/", "runs/")
    md5 = path.parent.name + path.name
    path.unlink()
    return Expected(ALL_DATA, md5)


def objects_swapped(root: Path, draw: random.Random) -> Expected:
    (name, one), (_, other) = draw.sample(
        [o for o in sorted(objects(root).items()) if o[0].startswith("data/made/photos/")], 2
    )
    first, second = one.read_bytes(), other.read_bytes()
    for path, data in ((one, second), (other, first)):
        path.chmod(0o644)
        path.write_bytes(data)
    return Expected({"data"}, name)


def object_of_equal_size(root: Path, draw: random.Random) -> Expected:
    name, path = one_object(root, draw, "data/made/photos/", "runs/export/", "runs/distill/")
    path.chmod(0o644)
    path.write_bytes(draw.randbytes(path.stat().st_size))
    return Expected(ALL_DATA, name)


def folder(root: Path) -> Path:
    """The folder of version 1 in MLflow."""
    name = sql(root, "SELECT source FROM model_versions WHERE version = 1")[0][0]
    return next((root / ".state/mlflow/artifacts").rglob(name.rpartition("/")[2])) / "artifacts"


def signature(root: Path) -> Path:
    """The signature of version 1."""
    run_id = sql(root, "SELECT run_id FROM model_versions WHERE version = 1")[0][0]
    return next((root / ".state/mlflow/artifacts").rglob(run_id)) / "artifacts/version.sig"


REST = {"dvc.lock", "stages", "commit", "data", "run"}


def weights_flipped(root: Path, draw: random.Random) -> Expected:
    name = draw.choice(["student.safetensors", "student.onnx", "student.json"])
    flip(folder(root) / "artifacts" / name, draw)
    return Expected({"version", "signature"}, f"artifacts/{name}")


def record_edited(root: Path, draw: random.Random) -> Expected:
    path = folder(root) / "lineage/record.json"
    record = json.loads(path.read_text())
    edit = draw.randrange(5)
    if edit == 0:
        record["git"]["commit"] = "0" * 40
    elif edit == 1:
        record["stages"][0]["params"]["params.yaml"]["prepare"]["seed"] += 1
    elif edit == 2:
        record["dvc_lock"]["text"] = record["dvc_lock"]["text"].replace("seed: 7", "seed: 9")
    elif edit == 3:
        record["evaluation"]["made"]["result"]["f1"]["value"] = 0.9
    else:
        record["datasets"]["made"]["licence"] = "mine"
    path.write_text(json.dumps(record))
    return Expected({"record", "signature"}, "lineage/record.json")


def record_flipped(root: Path, draw: random.Random) -> Expected:
    flip(folder(root) / "lineage/record.json", draw)
    return Expected({"record", "signature"}, "lineage/record.json")


def code_edited(root: Path, draw: random.Random) -> Expected:
    path = draw.choice(sorted((folder(root) / "code").rglob("*.py")))
    path.write_text(path.read_text() + "\n# changed\n")
    return Expected({"run", "signature"}, path.name)


def report_edited(root: Path, draw: random.Random) -> Expected:
    names = ["evaluation/made/metrics.json", "evaluation/made/images.parquet"]
    names += ["validation/result.json", "evaluation/made/report.html", "lineage/manifest.parquet"]
    name = draw.choice(names)
    flip(folder(root) / name, draw)
    return Expected({"evaluation", "validation", "data", "signature"}, name)


def file_deleted(root: Path, draw: random.Random) -> Expected:
    files = [p for p in sorted(folder(root).rglob("*")) if p.is_file()]
    path = draw.choice(files)
    path.unlink()
    allowed = {"version", "run", "record", "evaluation", "validation", "data", "signature"}
    return Expected(allowed, path.name)


def file_added(root: Path, draw: random.Random) -> Expected:
    (folder(root) / "code/sitecustomize.py").write_text("print('hello')\n")
    return Expected({"signature", "run"}, "sitecustomize.py")


def tag_edited(root: Path, draw: random.Random) -> Expected:
    names = ["identity", "record_sha256", "weights_sha256", "git_commit", "signature_sha256", "f1"]
    name = draw.choice(names)
    sql(root, "UPDATE model_version_tags SET value = 'x' WHERE version = 1 AND key = ?", name)
    return Expected({"version"}, f"tag {name}")


def metric_edited(root: Path, draw: random.Random) -> Expected:
    run_id = sql(root, "SELECT run_id FROM model_versions WHERE version = 1")[0][0]
    rows = sql(root, "SELECT key FROM latest_metrics WHERE run_uuid = ? ORDER BY key", run_id)
    name = draw.choice(rows)[0]
    where = "run_uuid = ? AND key = ?"
    sql(root, f"UPDATE latest_metrics SET value = value + 0.001 WHERE {where}", run_id, name)
    return Expected({"evaluation"}, name)


def parameter_edited(root: Path, draw: random.Random) -> Expected:
    run_id = sql(root, "SELECT run_id FROM model_versions WHERE version = 1")[0][0]
    name = draw.choice(["distill.epochs", "prepare.seed", "pseudo_label.teacher"])
    sql(root, "UPDATE params SET value = '77' WHERE run_uuid = ? AND key = ?", run_id, name)
    return Expected({"stages"}, name)


def run_deleted(root: Path, draw: random.Random) -> Expected:
    run_id = sql(root, "SELECT run_id FROM model_versions WHERE version = 1")[0][0]
    sql(root, "UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = ?", run_id)
    return Expected({"version", "run", "evaluation"}, f"{MODEL}/1")


def version_deleted(root: Path, draw: random.Random) -> Expected:
    sql(root, "UPDATE model_versions SET current_stage = 'Deleted_Internal' WHERE version = 1")
    every = {"version", "run", "record", "signature", "evaluation", "gates"}
    return Expected(every, f"{MODEL}/1")


def row_edited(root: Path, draw: random.Random) -> Expected:
    number = draw.randrange(1, 4)
    column, value = draw.choice(
        [("actor", "eve"), ("reason", "because"), ("time", "2020-01-01T00:00:00+00:00"),
         ("evidence", '{"files": {}}'), ("event", "rejected"), ("previous_hash", "1" * 64)]
    )  # fmt: skip
    sql(root, f"UPDATE ledger SET {column} = ? WHERE sequence = ?", value, number, ledger=True)
    return Expected({"ledger", "alias", "gates"}, f"row {number}")


def row_deleted(root: Path, draw: random.Random) -> Expected:
    last = len(ledger(root))
    number = draw.randrange(1, last + 1)
    sql(root, "DELETE FROM ledger WHERE sequence = ?", number, ledger=True)
    named = "rows after" if number == last else f"row {number} is missing"
    return Expected({"ledger", "alias", "gates"}, named)


def ledger(root: Path) -> list[Row]:
    names = ", ".join(Row.__dataclass_fields__)
    found = sql(root, f"SELECT {names} FROM ledger ORDER BY sequence", ledger=True)
    return [Row(*row) for row in found]


def ledger_rewritten(root: Path, draw: random.Random) -> Expected:
    """Another reason, and every hash after it computed again: a chain without a break."""
    rows = ledger(root)
    start = draw.randrange(len(rows))
    before = rows[start - 1].hash if start else rows[0].previous_hash
    for row in rows[start:]:
        changed = replace(row, previous_hash=before, reason=f"{row.reason}!")
        before = digest(asdict(changed))
        sql(
            root,
            "UPDATE ledger SET reason = ?, previous_hash = ?, hash = ? WHERE sequence = ?",
            changed.reason, changed.previous_hash, before, row.sequence, ledger=True,
        )  # fmt: skip
    return Expected({"ledger", "gates"}, "is not the one that the registry has seen")


def alias_moved(root: Path, draw: random.Random) -> Expected:
    if draw.random() < 0.5:
        sql(root, "UPDATE registered_model_aliases SET version = 2")
    else:
        sql(root, "DELETE FROM registered_model_aliases")
    return Expected({"alias"}, f"{MODEL}@champion")


def signature_flipped(root: Path, draw: random.Random) -> Expected:
    flip(signature(root), draw)
    return Expected({"signature"}, "version.sig")


def signature_deleted(root: Path, draw: random.Random) -> Expected:
    signature(root).unlink()
    return Expected({"signature"}, "version.sig")


def signed_by_another(root: Path, draw: random.Random) -> Expected:
    """A changed folder, signed again with a key that nobody trusts, the tags following."""
    key = root / ".state/other.pem"
    private, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    made = ec.generate_private_key(ec.SECP256R1())
    key.write_bytes(made.private_bytes(serialization.Encoding.PEM, private, plain))
    key.chmod(0o600)
    flip(folder(root) / "artifacts/student.safetensors", draw)
    from model_signing.signing import Config

    Config().use_elliptic_key_signer(private_key=key).sign(folder(root), signature(root))
    return Expected({"signature", "version"}, "version.sig")


def trusted_key_swapped(root: Path, draw: random.Random) -> Expected:
    path = next((root / ".state/keys/trusted").glob("*.pem"))
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    made = ec.generate_private_key(ec.SECP256R1()).public_key()
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM, public))
    assert signing.fingerprint(path) != path.stem
    return Expected({"signature"}, path.name)


def history_rewritten(root: Path, draw: random.Random) -> Expected:
    """The same files under a new history; the old commit is still in the object store."""
    run(root, "git", "checkout", "--quiet", "--orphan", "clean")
    commit(root, "start over")
    run(root, "git", "branch", "-D", "main")
    run(root, "git", "tag", "-d", f"model/{MODEL}/v1")
    return Expected({"commit"}, "history was rewritten")


def history_gone(root: Path, draw: random.Random) -> Expected:
    history_rewritten(root, draw)
    run(root, "git", "reflog", "expire", "--expire=now", "--all")
    run(root, "git", "gc", "--quiet", "--prune=now")
    return Expected({"commit", "stages", "dvc.lock"}, "not in the git repository")


def tag_moved(root: Path, draw: random.Random) -> Expected:
    run(root, "git", "tag", "-f", f"model/{MODEL}/v1", "HEAD")
    return Expected({"commit"}, f"model/{MODEL}/v1")


def git_object_flipped(root: Path, draw: random.Random) -> Expected:
    """A file's content in git: zlib and SHA-1 both notice."""
    name = draw.choice(["params.yaml", "dvc.lock", "dvc.yaml", "components/params.py"])
    blob = run(root, "git", "rev-parse", f"model/{MODEL}/v1:{name}").strip()
    flip(root / ".git/objects" / blob[:2] / blob[2:], draw)
    return Expected({"commit", "stages", "dvc.lock"}, blob)


def version_swapped(root: Path, draw: random.Random) -> Expected:
    """Version 2's whole folder and signature in the place of version 1's."""
    name = sql(root, "SELECT source FROM model_versions WHERE version = 2")[0][0]
    other = next((root / ".state/mlflow/artifacts").rglob(name.rpartition("/")[2])) / "artifacts"
    run_id = sql(root, "SELECT run_id FROM model_versions WHERE version = 2")[0][0]
    seal = next((root / ".state/mlflow/artifacts").rglob(run_id)) / "artifacts/version.sig"
    shutil.rmtree(folder(root))
    shutil.copytree(other, folder(root))
    shutil.copy(seal, signature(root))
    return Expected({"version", "signature", "record"}, "student.safetensors")


def witness_edited(root: Path, draw: random.Random) -> Expected:
    sql(
        root,
        "UPDATE registered_model_tags SET value = ? WHERE key = 'ledger_head'",
        f"2:{'0' * 64}",
    )
    return Expected({"ledger"}, "the registry has seen")


KINDS: list[Corruption] = [
    photo_flipped, mask_flipped, boxes_edited, licence_edited, listing_edited, output_flipped,
    object_deleted, objects_swapped, object_of_equal_size, weights_flipped, record_edited,
    record_flipped, code_edited, report_edited, file_deleted, file_added, tag_edited,
    metric_edited, parameter_edited, run_deleted, version_deleted, row_edited, row_deleted,
    ledger_rewritten, alias_moved, signature_flipped, signature_deleted, signed_by_another,
    trusted_key_swapped, history_rewritten, history_gone, tag_moved, git_object_flipped,
    version_swapped, witness_edited,
]  # fmt: skip
