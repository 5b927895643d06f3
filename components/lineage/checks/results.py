"""Checks of what was measured and decided: validation, evaluation, gates."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from components.core.errors import CheckError, InputError
from components.core.files import sha256_bytes, sha256_file
from components.lineage.checks.data import refused
from components.lineage.evidence import Evidence, parsed
from components.lineage.verdict import Finding, Pair, broken, compared, missing
from components.registry import curve, layout
from components.registry.package import numbers

_RESTS = "depends on the lineage record, which is missing or broken"
VALIDATION, CURVE = "runs/validate/result.json", "runs/distill/history.csv"


def validation(evidence: Evidence) -> list[Finding]:
    """The validation's result: record, remote and MLflow agree, and it passed."""
    link = "validation"
    if evidence.record is None:
        return [missing(link, _RESTS)]
    said = evidence.record["validation"]
    found = [
        *_result(evidence, link, VALIDATION, said),
        *_reports(evidence, link, "validation", "validate"),
    ]
    if said["result"].get("passed") is not True:
        found.append(broken(link, "the data did not pass", VALIDATION, True, False))
    return found


def evaluation(evidence: Evidence) -> list[Finding]:
    """Every data set's figures and the training curve: record, remote, rows and MLflow agree."""
    link = "evaluation"
    if evidence.record is None:
        return [missing(link, _RESTS)]
    found: list[Finding] = []
    for name, said in evidence.record["evaluation"].items():
        place = f"runs/evaluate/{name}"
        found += _result(evidence, link, f"{place}/metrics.json", said)
        found += _reports(evidence, link, f"evaluation/{name}", f"evaluate@{name}")
        found += _mean(evidence, f"{place}/images.parquet", said["result"])
    return [*found, *_metrics(evidence), *_curve(evidence)]


def _result(evidence: Evidence, link: str, path: str, said: dict[str, Any]) -> Iterator[Finding]:
    """A stage's JSON result: the object's SHA-256 and content against the record."""
    try:
        data = evidence.read(path, evidence.outs()[path])
    except CheckError as error:
        yield refused(link, path, error)
        return
    pairs: list[Pair] = [
        ("SHA-256", said["sha256"], sha256_bytes(data)),
        ("content", said["result"], parsed(data)),
    ]
    yield from compared(link, "the object in the remote matches the record", path, pairs)


def _reports(evidence: Evidence, link: str, folder: str, stage: str) -> list[Finding]:
    """The stage's files in the version's folder, against what DVC recorded of them."""
    pairs: list[Pair] = []
    found: list[Finding] = []
    for row in evidence.stage(stage)["outs"]:
        path = f"{folder}/{row['path'].rpartition('/')[2]}"
        file = evidence.files / path
        try:
            want: object = sha256_bytes(evidence.read(row["path"], row["md5"]))
        except CheckError as error:
            found.append(refused(link, row["path"], error))
            continue
        pairs.append((path, want, sha256_file(file) if file.is_file() else None))
    if pairs:
        found += compared(link, "MLflow's copies match the stage's files", "MLflow model", pairs)
    return found


def _mean(evidence: Evidence, path: str, result: dict[str, Any]) -> list[Finding]:
    """F1 and false-alarm area, computed again from the per-photo rows."""
    try:
        rows = pd.read_parquet(io.BytesIO(evidence.read(path, evidence.outs()[path])))
    except CheckError as error:
        return [refused("evaluation", path, error)]
    found = []
    for name in ("f1", "false_alarm_area"):
        said = (result.get(name) or {}).get("value")
        mean = rows[name].astype(float).mean()
        again = None if pd.isna(mean) else float(mean)
        if not _close(said, again):
            found.append(broken("evaluation", f"mean {name} differs", path, said, again))
    return found


def _close(one: float | None, other: float | None) -> bool:
    """Equal but for the order of a sum."""
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)


def _metrics(evidence: Evidence) -> list[Finding]:
    """MLflow's metrics against the record, in both directions."""
    if evidence.run is None:
        return [missing("evaluation", "MLflow has no such version or run", evidence.name)]
    results = {name: said["result"] for name, said in (evidence.record or {})["evaluation"].items()}
    want = dict(numbers(results))
    roots = tuple(f"{name}/" for name in results)
    more = {n for n in evidence.run.metrics if n.startswith(roots)} - want.keys()
    pairs: list[Pair] = [
        (name, value, evidence.run.metrics.get(name)) for name, value in sorted(want.items())
    ]
    pairs += [(name, "no such metric", evidence.run.metrics[name]) for name in sorted(more)]
    return compared("evaluation", "MLflow's metrics match the record", "MLflow metric", pairs)


def _curve(evidence: Evidence) -> list[Finding]:
    """The training curve: remote, the version's copy and MLflow's last epoch agree.

    Versions that were registered before curves were kept have neither copy nor metrics.
    """
    link, file = "evaluation", evidence.files / layout.CURVE
    metrics = evidence.run.metrics if evidence.run else {}
    told = {name: metrics[name] for name in curve.COLUMNS if name in metrics}
    if not file.is_file() and not told:
        return []
    try:
        data = evidence.read(CURVE, evidence.outs()[CURVE])
        last = {point.name: point.value for point in curve.points(data, CURVE)}
    except CheckError as error:
        return [refused(link, CURVE, error)]
    except InputError as error:
        return [broken(link, error.what, CURVE)]
    copy = sha256_file(file) if file.is_file() else None
    pairs: list[Pair] = [(layout.CURVE, sha256_bytes(data), copy)]
    if evidence.run:
        pairs += [(name, last.get(name), told.get(name)) for name in curve.COLUMNS]
    return compared(link, "the training curve matches the stage's output", "MLflow", pairs)
