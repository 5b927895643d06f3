"""Where things lie in a version, once fetched: its folder, signature and provenance beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER, SIGNATURE = "version", "version.sig"
PROVENANCE = "provenance.intoto.json"  # beside the signature
# Within the folder:
ARTIFACTS = "artifacts"  # the student's files, where MLflow puts a model's own
RECORD = "lineage/record.json"
MANIFEST = "lineage/manifest.parquet"  # the photos that it was trained, validated and tested on
CURVE = "training/history.csv"
CARD, BOM = "card.md", "bom.cdx.json"
# Of a registered model in MLflow: its alias, and the tag that says where its ledger ends.
ALIAS, LEDGER_HEAD = "champion", "ledger_head"
# Tags of a version in MLflow, and keys of its row in the ledger.
IDENTITY, RECORD_HASH = "identity", "record_sha256"
SIGNATURE_HASH, SIGNER = "signature_sha256", "signing_key"
PROVENANCE_HASH = "provenance_sha256"
# Keys of rows alone: versions with the same student and evidence, the dvc.lock that made it again.
TWINS, LOCK_HASH = "twins", "dvc_lock_sha256"
TEST_RESULT = "test_result"  # of a `gated` row: its attestation


def places(fetched: Path) -> tuple[Path, Path]:
    """The version's folder and its signature in what was fetched."""
    return fetched / FOLDER, fetched / SIGNATURE


def measured(record: Mapping[str, Any]) -> dict[str, str | None]:
    """SHA-256 of each result in a lineage record: validation, evaluations, parity of the export."""
    return {
        "validation": record["validation"]["sha256"],
        **{f"evaluation/{name}": of["sha256"] for name, of in record["evaluation"].items()},
        "parity": record["files"].get("parity.json"),
    }
