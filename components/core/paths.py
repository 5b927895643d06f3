"""Every place of a workspace: the data, what the stages write, and the state folder.

The stages' outputs are named in dvc.yaml too, since DVC reads no code.
"""

from __future__ import annotations

import os
from pathlib import Path

from components.core.errors import InputError

PROJECT_FOLDER = "run this in the project's folder"  # the hint where a command is run elsewhere

# Relative to the workspace.
DATA, RUNS = Path("data"), Path("runs")
DEMO_SOURCES = DATA / "demo-sources"
# In git, for whoever audits a clone.
PUBLIC_KEYS, TOMBSTONES = Path("trusted_keys"), Path("tombstones")

INDEXED = RUNS / "index"
PREPARED = RUNS / "prepare"
MANIFEST, BOXES = PREPARED / "manifest.parquet", PREPARED / "boxes.parquet"

VALIDATED = RUNS / "validate"
VALIDATION, VALIDATION_PAGE = VALIDATED / "result.json", VALIDATED / "report.html"

PSEUDO_LABELED = RUNS / "pseudo_label"
PSEUDO_MASKS, LABELS = PSEUDO_LABELED / "masks", PSEUDO_LABELED / "labels.parquet"
PSEUDO_LABEL_SUMMARY = PSEUDO_LABELED / "summary.json"
CONTACT_SHEET = PSEUDO_LABELED / "contact_sheet.png"

DISTILLED = RUNS / "distill"
CURVE, DISTILL_SUMMARY = DISTILLED / "history.csv", DISTILLED / "summary.json"

EVALUATED = RUNS / "evaluate"  # a folder per data set, with these files
METRICS, IMAGES, EVALUATION_PAGE = "metrics.json", "images.parquet", "report.html"
EVALUATION_PHOTOS = "photos.html"

EXPORTED = RUNS / "export"
PARITY = EXPORTED / "parity.json"

# Relative to the state folder.
CACHE = Path("cache")
LABEL_CACHE, EMBEDDING_CACHE = CACHE / "pseudo_label", CACHE / "embeddings"
DISTILL_CACHE, MODEL_CACHE = CACHE / "distill", CACHE / "models"
DVC_CACHE, WEIGHTS, INBOX, CLONE = Path("dvc-cache"), Path("weights"), Path("inbox"), Path("clone")
ANNOTATE = Path("annotate")  # a folder per data set, with one per source
LEDGER, DECISIONS, AUDITS = Path("ledger.db"), Path("decisions"), Path("audit")
TRUSTED_KEYS, SIGNING_KEY = Path("keys/trusted"), Path("keys/signing.pem")
MLFLOW_STORE, MLFLOW_ARTIFACTS = Path("mlflow/mlflow.db"), Path("mlflow/artifacts")
PREFECT, STACK = Path("prefect"), Path("stack")
RUN_LOCK, RUNNING, LAST_RUN = Path("run.lock"), Path("running.json"), Path("last_run.json")


def require_project() -> None:
    """Raise InputError outside the project's folder, where `$IML_STATE` names no state folder."""
    if not os.environ.get("IML_STATE") and not Path("params.yaml").exists():
        raise InputError("no such file", where="params.yaml", hint=PROJECT_FOLDER)


def state_dir() -> Path:
    """The folder of everything kept between runs: `$IML_STATE`, else `.state` of this project.

    Raises InputError outside the project.
    """
    require_project()
    return Path(os.environ.get("IML_STATE") or ".state").absolute()
