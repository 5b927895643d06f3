"""Checks of the results: validation, evaluation and the training curve."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import pandas as pd

from components.core.errors import CheckError, InputError
from components.core.files import sha256_bytes, sha256_file
from components.lineage.checks.data import refused
from components.lineage.evidence import Evidence, parsed
from components.lineage.verdict import Finding, Pair, broken, close, compared, missing
from components.registry import curve
from components.registry.package import numbers


def validation(evidence: Evidence) -> Iterator[Finding]:
    """The validation's result: record, remote and MLflow agree, and it passed."""
    recorded, names = evidence.record["validation"], evidence.names
    yield from _result(evidence, "validation", "", recorded)
    yield from _reports(evidence, names.file("validation"), names.stage("validation"))
    passed = recorded["result"].get("passed")
    if passed is None:
        yield missing("does not say whether the data passed", names.path("validation"))
    elif passed is not True:
        yield broken("the data did not pass", names.path("validation"), True, passed)


def evaluation(evidence: Evidence) -> Iterator[Finding]:
    """Every data set's figures and the training curve: record, remote, rows and MLflow agree."""
    names = evidence.names
    for name, recorded in evidence.record["evaluation"].items():
        yield from _result(evidence, "metrics", name, recorded)
        folder, stage = names.file("evaluation", name), names.stage("evaluation", name)
        gallery = [] if names.file("gallery", name) else [names.path("gallery", name)]
        yield from _reports(evidence, folder, stage, gallery)
        yield from _means(evidence, name, recorded["result"])
    yield from _metrics(evidence)
    yield from _curve(evidence)


def _result(evidence: Evidence, name: str, dataset: str, recorded: dict[str, Any]) -> list[Finding]:
    """A stage's JSON result: the object's SHA-256 and content against the record."""
    path = evidence.names.path(name, dataset)
    try:
        data = evidence.output(name, dataset)
    except CheckError as error:
        return [refused(error)]
    pairs: list[Pair] = [
        ("SHA-256", recorded["sha256"], sha256_bytes(data)),
        ("content", recorded["result"], parsed(data)),
    ]
    return compared("the object in the remote matches the record", path, pairs)


def _reports(
    evidence: Evidence, folder: str, stage: str, unpacked: Collection[str] = ()
) -> Iterator[Finding]:
    """The stage's files in the version's folder, against what DVC recorded of them.

    `unpacked` are those that are not in the folder.
    """
    pairs: list[Pair] = []
    for row in evidence.stage(stage)["outs"]:
        if row["path"] in unpacked:
            continue
        path = f"{folder}/{row['path'].rpartition('/')[2]}"
        file = evidence.files / path
        try:
            expected = sha256_bytes(evidence.read(row["path"], row["md5"]))
        except CheckError as error:
            yield refused(error)
            continue
        pairs.append((path, expected, sha256_file(file) if file.is_file() else None))
    if pairs:
        yield from compared("MLflow's copies match the stage's files", "MLflow model", pairs)


def _means(evidence: Evidence, dataset: str, result: dict[str, Any]) -> Iterator[Finding]:
    """F1 and false-alarm area, computed again from the per-photo rows."""
    path, figures = evidence.names.path("images", dataset), ("f1", "false_alarm_area")
    try:
        rows = evidence.table("images", figures, dataset=dataset)
    except CheckError as error:
        yield refused(error)
        return
    for name in figures:
        recorded, mean = (result.get(name) or {}).get("value"), rows[name].astype(float).mean()
        again = None if pd.isna(mean) else float(mean)
        if not close(recorded, again):
            yield broken(f"mean {name} differs", path, recorded, again)


def _metrics(evidence: Evidence) -> list[Finding]:
    """MLflow's metrics against the record, in both directions."""
    if evidence.run is None:
        return [missing(evidence.no_run, evidence.name)]
    logged = evidence.run.metrics
    results = {name: block["result"] for name, block in evidence.record["evaluation"].items()}
    expected = dict(numbers(results))
    roots = tuple(f"{name}/" for name in results)
    more = {name for name in logged if name.startswith(roots)} - expected.keys()
    pairs: list[Pair] = [(name, v, logged.get(name)) for name, v in sorted(expected.items())]
    pairs += [(name, "no such metric", logged[name]) for name in sorted(more)]
    return compared("MLflow's metrics match the record", "MLflow metric", pairs)


def _curve(evidence: Evidence) -> list[Finding]:
    """The training curve: remote, the version's copy and MLflow's last epoch agree.

    Versions that were registered before curves were kept have neither copy nor metrics.
    """
    place, metrics = evidence.names.file("curve"), evidence.run.metrics if evidence.run else {}
    file, path = evidence.files / place, evidence.names.path("curve")
    if not file.is_file() and path not in evidence.outs():
        return []
    try:
        data = evidence.output("curve")
        last = {point.name: point.value for point in curve.points(data, path)}
    except CheckError as error:
        return [refused(error)]
    except InputError as error:
        return [missing(error.what, path)]
    if not file.is_file() and not last.keys() & metrics.keys():
        return []
    copy = sha256_file(file) if file.is_file() else None
    pairs: list[Pair] = [(place, sha256_bytes(data), copy)]
    if evidence.run:
        pairs += [(name, value, metrics.get(name)) for name, value in last.items()]
    return compared("the training curve matches the stage's output", "MLflow", pairs)
