"""OpenLineage events of a version: one for each stage, and one for each decision in the ledger.

They are exports of recorded facts: the same version gives the same events, with the same run ids,
however often they are sent. A stage's event carries the time of registration, because no stage
records the time of day.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import requests
from attr import evolve
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    data_quality_assertions_dataset,
    data_quality_metrics_input_dataset,
    dataset_version_dataset,
    documentation_job,
    job_type_job,
    parent_run,
    schema_dataset,
    source_code_location_job,
)
from openlineage.client.transport import Transport
from openlineage.client.transport.file import FileConfig, FileTransport
from openlineage.client.transport.http import HttpConfig, HttpTransport
from openlineage.client.uuid import generate_static_uuid

from components.errors import CheckError, InputError
from components.lineage.case import Case
from components.lineage.checks.data import BOXES, MANIFEST
from components.lineage.photos import require_record
from components.registry.chain import Row

PRODUCER = "urn:boxpromptiml:lineage"


def events(case: Case) -> list[RunEvent]:
    """A start and an end for every stage of a version, then for each of its rows in the ledger.

    Raises:
        CheckError: its record or its row in the ledger is missing or broken.
    """
    record = require_record(case)
    if case.born is None:
        raise CheckError("its row in the ledger is missing or broken", where=case.name)
    parent = _run_id(case.born.time, case.name)
    stages = [_stage(case, record, stage, case.born.time, parent) for stage in record["stages"]]
    own = [row for row in case.rows if row.version == case.version and row.intact()]
    ends = [*stages, *(_decision(case, row) for row in own)]
    return [event for end in ends for event in (_start(end), end)]


def _start(end: RunEvent) -> RunEvent:
    """The beginning that the standard asks for before every end."""
    return evolve(end, eventType=RunState.START, inputs=[], outputs=[])


def _run_id(time: str, name: str) -> str:
    """The same run id for the same thing at the same time."""
    return str(generate_static_uuid(datetime.fromisoformat(time), name.encode()))


def _stage(
    case: Case, record: Mapping[str, Any], stage: Mapping[str, Any], time: str, parent: str
) -> RunEvent:
    name, space = stage["name"], case.model
    above = parent_run.ParentRunFacet(
        run=parent_run.Run(parent), job=parent_run.Job(space, "pipeline"), producer=PRODUCER
    )
    code = source_code_location_job.SourceCodeLocationJobFacet(
        type="git", url="urn:git", path="dvc.yaml", version=record["git"]["commit"],
        producer=PRODUCER,
    )  # fmt: skip
    kind = job_type_job.JobTypeJobFacet(
        processingType="BATCH", integration="DVC", jobType="STAGE", producer=PRODUCER
    )
    told = documentation_job.DocumentationJobFacet(description=stage["command"], producer=PRODUCER)
    facets: dict[str, Any] = {"sourceCodeLocation": code, "jobType": kind, "documentation": told}
    return RunEvent(
        eventType=RunState.COMPLETE,
        eventTime=time,
        run=Run(_run_id(time, f"{case.name}/{name}"), {"parent": above}),
        job=Job(space, name, facets),
        inputs=[_input(case, record, row) for row in stage["deps"] if "md5" in row],
        outputs=[_output(case, row) for row in stage["outs"] if "md5" in row],
        producer=PRODUCER,
    )


def _facets(case: Case, row: Mapping[str, Any]) -> dict[str, Any]:
    """Version of a dataset and, of a table, its columns."""
    version = dataset_version_dataset.DatasetVersionDatasetFacet(row["md5"], producer=PRODUCER)
    facets: dict[str, Any] = {"version": version}
    if row["path"].endswith(".parquet"):
        try:
            schema = pq.read_schema(io.BytesIO(case.read(row["path"], row["md5"])))
        except CheckError:  # not in the remote: the version is known all the same
            return facets
        fields = [
            schema_dataset.SchemaDatasetFacetFields(name=field.name, type=str(field.type))
            for field in schema
        ]
        facets["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields, producer=PRODUCER)
    return facets


def _output(case: Case, row: Mapping[str, Any]) -> OutputDataset:
    return OutputDataset(case.model, row["path"], facets=_facets(case, row))


def _input(case: Case, record: Mapping[str, Any], row: Mapping[str, Any]) -> InputDataset:
    quality: dict[str, Any] = {}
    if row["path"] == MANIFEST:
        quality["dataQualityAssertions"] = _assertions(record["validation"]["result"])
    if row["path"] in (MANIFEST, BOXES):
        quality |= _counts(case, row)
    return InputDataset(case.model, row["path"], facets=_facets(case, row), inputFacets=quality)


def _assertions(result: Mapping[str, Any]) -> Any:
    """The validation's checks, as assertions on the manifest."""
    rows = [
        data_quality_assertions_dataset.Assertion(assertion=check["name"], success=check["passed"])
        for check in result.get("details", [])
    ]
    return data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
        assertions=rows, producer=PRODUCER
    )


def _counts(case: Case, row: Mapping[str, Any]) -> dict[str, Any]:
    """Rows and nulls by column of a table."""
    try:
        table = pq.read_table(io.BytesIO(case.read(row["path"], row["md5"])))
    except CheckError:
        return {}
    columns = {
        name: data_quality_metrics_input_dataset.ColumnMetrics(
            nullCount=table[name].null_count, count=float(table.num_rows)
        )
        for name in table.column_names
    }
    facet = data_quality_metrics_input_dataset.DataQualityMetricsInputDatasetFacet(
        columnMetrics=columns, rowCount=table.num_rows, bytes=row.get("size"), producer=PRODUCER
    )
    return {"dataQualityMetrics": facet}


def _decision(case: Case, row: Row) -> RunEvent:
    """What happened to the version: registered, gated, promoted, rejected, rolled back."""
    version = dataset_version_dataset.DatasetVersionDatasetFacet(
        str(row.version), producer=PRODUCER
    )
    told = documentation_job.DocumentationJobFacet(
        description=f"{row.event} by {row.actor}: {row.reason}", producer=PRODUCER
    )
    kind = job_type_job.JobTypeJobFacet(
        processingType="BATCH", integration="LEDGER", jobType=row.event.upper(), producer=PRODUCER
    )
    crowned = row.event in ("promoted", "rolled_back")
    return RunEvent(
        eventType=RunState.COMPLETE,
        eventTime=row.time,
        run=Run(_run_id(row.time, row.hash)),
        job=Job(case.model, row.event, {"documentation": told, "jobType": kind}),
        inputs=[InputDataset(case.model, f"version/{row.version}", facets={"version": version})],
        outputs=[OutputDataset(case.model, "champion", facets={"version": version})]
        if crowned
        else [],
        producer=PRODUCER,
    )


def to_file(path: Path) -> Transport:
    """Events as JSON lines, appended to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileTransport(FileConfig(log_file_path=str(path), append=True))


def to_server(url: str) -> Transport:
    """Events to an OpenLineage server; `$OPENLINEAGE_API_KEY` is its key where it asks for one."""
    return HttpTransport(HttpConfig.from_dict({"url": url, "timeout": 10, "retry": {"total": 2}}))


def emit(found: list[RunEvent], transport: Transport, where: str) -> None:
    """Send events in order; raises InputError where they are not taken."""
    client = OpenLineageClient(transport=transport)
    try:
        for event in found:
            client.emit(event)
    except (requests.RequestException, OSError, ValueError) as error:
        said = str(error).partition("\n")[0][:200]
        raise InputError(f"the events were not taken ({said})", where=where) from None
