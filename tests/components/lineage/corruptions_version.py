"""Corruptions of MLflow and of what it keeps: a version's folder, tags, run, signature, keys."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from corruptions_base import Corruption, Expected, flip, sql
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from lineage_support import MODEL

from components.registry import layout, signing


def folder(root: Path) -> Path:
    """The folder of version 1 in MLflow."""
    name = sql(root, "SELECT source FROM model_versions WHERE version = 1")[0][0]
    return next((root / ".state/mlflow/artifacts").rglob(name.rpartition("/")[2])) / "artifacts"


def signature(root: Path) -> Path:
    """The signature of version 1."""
    run_id = sql(root, "SELECT run_id FROM model_versions WHERE version = 1")[0][0]
    return next((root / ".state/mlflow/artifacts").rglob(run_id)) / "artifacts/version.sig"


def weights_flipped(root: Path, draw: random.Random) -> Expected:
    name = draw.choice(["student.safetensors", "student.onnx", "student.json"])
    flip(folder(root) / "artifacts" / name, draw)
    return Expected(
        {"version", "signature"},
        f"artifacts/{name}",
        "ONNX" if name.endswith("onnx") else "weights",
    )


def record_edited(root: Path, draw: random.Random) -> Expected:
    path = folder(root) / "lineage/record.json"
    record = json.loads(path.read_text())
    edit = draw.randrange(5)
    if edit == 0:
        record["git"]["commit"] = "0" * 40
    elif edit == 1:
        record["stages"][0]["params"]["params.yaml"]["prepare.seed"] += 1
    elif edit == 2:
        record["dvc_lock"]["text"] = record["dvc_lock"]["text"].replace("seed: 7", "seed: 9")
    elif edit == 3:
        record["evaluation"]["made"]["result"]["f1"]["value"] = 0.9
    else:
        record["datasets"]["made"]["licence"] = "mine"
    path.write_text(json.dumps(record))
    return Expected({"record", "signature"}, "lineage/record.json", "record")


def record_flipped(root: Path, draw: random.Random) -> Expected:
    flip(folder(root) / "lineage/record.json", draw)
    return Expected({"record", "signature"}, "lineage/record.json", "record")


def code_edited(root: Path, draw: random.Random) -> Expected:
    path = draw.choice(sorted((folder(root) / "code").rglob("*.py")))
    path.write_text(path.read_text() + "\n# changed\n")
    return Expected({"run", "signature"}, path.name, "MLflow artifacts")


def report_edited(root: Path, draw: random.Random) -> Expected:
    names = ["evaluation/made/metrics.json", "evaluation/made/images.parquet"]
    names += ["validation/result.json", "evaluation/made/report.html", "lineage/manifest.parquet"]
    names += ["training/history.csv"]
    name = draw.choice(names)
    flip(folder(root) / name, draw)
    return Expected({"evaluation", "validation", "data", "signature"}, name, "MLflow artifacts")


def file_deleted(root: Path, draw: random.Random) -> Expected:
    files = [p for p in sorted(folder(root).rglob("*")) if p.is_file()]
    path = draw.choice(files)
    path.unlink()
    allowed = {"version", "run", "record", "evaluation", "validation", "data", "signature"}
    return Expected(allowed, path.name, "deletions", gone=True)


def file_added(root: Path, draw: random.Random) -> Expected:
    (folder(root) / "code/sitecustomize.py").write_text("print('hello')\n")
    return Expected({"signature", "run"}, "sitecustomize.py", "MLflow artifacts")


def tag_edited(root: Path, draw: random.Random) -> Expected:
    names = ["identity", "record_sha256", "weights_sha256", "git_commit", "signature_sha256", "f1"]
    names.append("provenance_sha256")
    name = draw.choice(names)
    sql(root, "UPDATE model_version_tags SET value = 'x' WHERE version = 1 AND key = ?", name)
    return Expected({"version"}, f"tag {name}", "MLflow tags")


def metric_edited(root: Path, draw: random.Random) -> Expected:
    run_id = sql(root, "SELECT run_id FROM model_versions WHERE version = 1")[0][0]
    rows = sql(root, "SELECT key FROM latest_metrics WHERE run_uuid = ? ORDER BY key", run_id)
    name = draw.choice(rows)[0]
    where = "run_uuid = ? AND key = ?"
    sql(root, f"UPDATE latest_metrics SET value = value + 0.001 WHERE {where}", run_id, name)
    return Expected({"evaluation"}, name, "MLflow metrics")


def parameter_edited(root: Path, draw: random.Random) -> Expected:
    run_id = sql(root, "SELECT run_id FROM model_versions WHERE version = 1")[0][0]
    name = draw.choice(["distill.epochs", "prepare.seed", "pseudo_label.teacher"])
    sql(root, "UPDATE params SET value = '77' WHERE run_uuid = ? AND key = ?", run_id, name)
    return Expected({"stages"}, name, "params")


def run_deleted(root: Path, draw: random.Random) -> Expected:
    run_id = sql(root, "SELECT run_id FROM model_versions WHERE version = 1")[0][0]
    sql(root, "UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = ?", run_id)
    return Expected({"version", "run", "evaluation"}, f"{MODEL}/1", "deletions", gone=True)


def version_deleted(root: Path, draw: random.Random) -> Expected:
    sql(root, "UPDATE model_versions SET current_stage = 'Deleted_Internal' WHERE version = 1")
    every = {"version", "run", "record", "signature", "evaluation", "gates"}
    return Expected(every, f"{MODEL}/1", "deletions", gone=True)


def alias_moved(root: Path, draw: random.Random) -> Expected:
    if draw.random() < 0.5:
        sql(root, "UPDATE registered_model_aliases SET version = 2")
    else:
        sql(root, "DELETE FROM registered_model_aliases")
    return Expected({"alias"}, f"{MODEL}@champion", "alias")


def signature_flipped(root: Path, draw: random.Random) -> Expected:
    flip(signature(root), draw)
    return Expected({"signature"}, "version.sig", "signature")


def signature_deleted(root: Path, draw: random.Random) -> Expected:
    signature(root).unlink()
    return Expected({"signature"}, "version.sig", "deletions", gone=True)


def provenance_flipped(root: Path, draw: random.Random) -> Expected:
    flip(signature(root).with_name(layout.PROVENANCE), draw)
    return Expected({"signature"}, layout.PROVENANCE, "signature")


def provenance_deleted(root: Path, draw: random.Random) -> Expected:
    signature(root).with_name(layout.PROVENANCE).unlink()
    return Expected({"signature"}, layout.PROVENANCE, "deletions", gone=True)


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
    return Expected({"signature", "version"}, "version.sig", "signature")


def trusted_key_swapped(root: Path, draw: random.Random) -> Expected:
    path = next((root / ".state/keys/trusted").glob("*.pem"))
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    made = ec.generate_private_key(ec.SECP256R1()).public_key()
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM, public))
    assert signing.fingerprint(path) != path.stem
    # It signed rows and attestations, too.
    return Expected({"signature", "ledger", "gates"}, path.name, "signature")


def version_swapped(root: Path, draw: random.Random) -> Expected:
    """Version 2's whole folder and signature in the place of version 1's."""
    name = sql(root, "SELECT source FROM model_versions WHERE version = 2")[0][0]
    other = next((root / ".state/mlflow/artifacts").rglob(name.rpartition("/")[2])) / "artifacts"
    run_id = sql(root, "SELECT run_id FROM model_versions WHERE version = 2")[0][0]
    seal = next((root / ".state/mlflow/artifacts").rglob(run_id)) / "artifacts/version.sig"
    shutil.rmtree(folder(root))
    shutil.copytree(other, folder(root))
    shutil.copy(seal, signature(root))
    return Expected({"version", "signature", "record"}, "student.safetensors", "files swapped")


VERSION: list[Corruption] = [
    weights_flipped, record_edited, record_flipped, code_edited, report_edited, file_deleted,
    file_added, tag_edited, metric_edited, parameter_edited, run_deleted, version_deleted,
    alias_moved, signature_flipped, signature_deleted, signed_by_another, trusted_key_swapped,
    version_swapped, provenance_flipped, provenance_deleted,
]  # fmt: skip
