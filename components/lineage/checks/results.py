"""Checks of what was measured and decided: validation, evaluation, gates."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from components.errors import CheckError, InputError
from components.files import sha256_bytes, sha256_file
from components.lineage.case import Case, parsed
from components.lineage.checks.data import refused
from components.lineage.verdict import Finding, Pair, broken, compared, missing
from components.registry import curve, layout
from components.registry.package import numbers

_RESTS = "depends on the lineage record, which is missing or broken"
VALIDATION, CURVE = "runs/validate/result.json", "runs/distill/history.csv"


def validation(case: Case) -> list[Finding]:
    """The validation's result: record, remote and MLflow agree, and it passed."""
    link = "validation"
    if case.record is None:
        return [missing(link, _RESTS)]
    said = case.record["validation"]
    found = [
        *_result(case, link, VALIDATION, said),
        *_reports(case, link, "validation", "validate"),
    ]
    if said["result"].get("passed") is not True:
        found.append(broken(link, "the data did not pass", VALIDATION, True, False))
    return found


def evaluation(case: Case) -> list[Finding]:
    """Every data set's figures and the training curve: record, remote, rows and MLflow agree."""
    link = "evaluation"
    if case.record is None:
        return [missing(link, _RESTS)]
    found: list[Finding] = []
    for name, said in case.record["evaluation"].items():
        place = f"runs/evaluate/{name}"
        found += _result(case, link, f"{place}/metrics.json", said)
        found += _reports(case, link, f"evaluation/{name}", f"evaluate@{name}")
        found += _mean(case, f"{place}/images.parquet", said["result"])
    return [*found, *_metrics(case), *_curve(case)]


def _result(case: Case, link: str, path: str, said: dict[str, Any]) -> Iterator[Finding]:
    """A stage's JSON result: the object's SHA-256 and content against the record."""
    try:
        data = case.read(path, case.outs()[path])
    except CheckError as error:
        yield refused(link, path, error)
        return
    pairs: list[Pair] = [
        ("SHA-256", said["sha256"], sha256_bytes(data)),
        ("content", said["result"], parsed(data)),
    ]
    yield from compared(link, "the object in the remote matches the record", path, pairs)


def _reports(case: Case, link: str, folder: str, stage: str) -> list[Finding]:
    """The stage's files in the version's folder, against what DVC recorded of them."""
    pairs: list[Pair] = []
    found: list[Finding] = []
    for row in case.stage(stage)["outs"]:
        path = f"{folder}/{row['path'].rpartition('/')[2]}"
        file = case.files / path
        try:
            want: object = sha256_bytes(case.read(row["path"], row["md5"]))
        except CheckError as error:
            found.append(refused(link, row["path"], error))
            continue
        pairs.append((path, want, sha256_file(file) if file.is_file() else None))
    if pairs:
        found += compared(link, "MLflow's copies match the stage's files", "MLflow model", pairs)
    return found


def _mean(case: Case, path: str, result: dict[str, Any]) -> list[Finding]:
    """F1 and false-alarm area, computed again from the per-photo rows."""
    try:
        rows = pd.read_parquet(io.BytesIO(case.read(path, case.outs()[path])))
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


def _metrics(case: Case) -> list[Finding]:
    """MLflow's metrics against the record, in both directions."""
    if case.run is None:
        return [missing("evaluation", "MLflow has no such version or run", case.name)]
    results = {name: said["result"] for name, said in (case.record or {})["evaluation"].items()}
    want = dict(numbers(results))
    roots = tuple(f"{name}/" for name in results)
    more = {n for n in case.run.metrics if n.startswith(roots)} - want.keys()
    pairs: list[Pair] = [
        (name, value, case.run.metrics.get(name)) for name, value in sorted(want.items())
    ]
    pairs += [(name, "no such metric", case.run.metrics[name]) for name in sorted(more)]
    return compared("evaluation", "MLflow's metrics match the record", "MLflow metric", pairs)


def _curve(case: Case) -> list[Finding]:
    """The training curve: remote, the version's copy and MLflow's last epoch agree.

    Versions that were registered before curves were kept have neither copy nor metrics.
    """
    link, file = "evaluation", case.files / layout.CURVE
    metrics = case.run.metrics if case.run else {}
    told = {name: metrics[name] for name in curve.COLUMNS if name in metrics}
    if not file.is_file() and not told:
        return []
    try:
        data = case.read(CURVE, case.outs()[CURVE])
        last = {point.name: point.value for point in curve.points(data, CURVE)}
    except CheckError as error:
        return [refused(link, CURVE, error)]
    except InputError as error:
        return [broken(link, error.what, CURVE)]
    copy = sha256_file(file) if file.is_file() else None
    pairs: list[Pair] = [(layout.CURVE, sha256_bytes(data), copy)]
    if case.run:
        pairs += [(name, last.get(name), told.get(name)) for name in curve.COLUMNS]
    return compared(link, "the training curve matches the stage's output", "MLflow", pairs)
