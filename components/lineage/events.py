"""OpenLineage events: of a stage that runs, of a decision in the ledger, of a version afterwards.

They are exports of recorded facts. Flows emit a stage's events as it runs and a decision's when its
row is written. `events` describes a registered version afterwards: the same version gives the same
events, with the same run ids, however often they are sent; its stages carry the time of
registration, because no stage records the time of day.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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
    error_message_run,
    job_type_job,
    parent_run,
    schema_dataset,
    source_code_location_job,
)
from openlineage.client.transport import Transport
from openlineage.client.transport.file import FileConfig, FileTransport
from openlineage.client.transport.http import HttpConfig, HttpTransport
from openlineage.client.uuid import generate_static_uuid

from components.core.errors import EvidenceError, ImlError, UnavailableError
from components.core.paths import EXPORTED
from components.lineage.evidence import Evidence, below
from components.registry.chain import CHAMPION_EVENTS, Event, Row

PRODUCER = "urn:boxpromptiml:lineage"


@dataclass(frozen=True)
class Facts:
    """Where the facts of an event come from.

    Attributes:
        space: the namespace of jobs and data sets, which is the model's name.
        commit: of the code.
        read: the bytes of a path by its MD5; raises ImlError or OSError where they are not
            available, and then only the data set's version is given.
        validation: gives the result of the stage `validate`.
        manifest, boxes: paths of the two tables.
        made: MD5 by path of what the stages wrote; a folder of it that a stage read is named by
            these.
    """

    space: str
    commit: str
    read: Callable[[str, str], bytes]
    validation: Callable[[], Mapping[str, Any]]
    manifest: str
    boxes: str
    made: Mapping[str, str]


@dataclass(frozen=True)
class Execution:
    """One execution of a stage."""

    space: str  # the namespace, which is the model's name
    stage: str  # its name in dvc.yaml
    run_id: str  # a UUID
    parent: tuple[str, str]  # job name and run id of the run that it is a part of

    def started(self, time: str) -> RunEvent:
        """The event of its start, at a time in ISO 8601."""
        return self._event(RunState.START, time, {"jobType": _job_type("DVC", "STAGE")})

    def completed(self, time: str, facts: Facts, stage: Mapping[str, Any]) -> RunEvent:
        """The event of its end; `stage` is a stage of the lineage record."""
        code = source_code_location_job.SourceCodeLocationJobFacet(
            type="git", url="urn:git", path="dvc.yaml", version=facts.commit, producer=PRODUCER
        )
        job = {
            "sourceCodeLocation": code,
            "jobType": _job_type("DVC", "STAGE"),
            "documentation": _description(stage["command"]),
        }
        return evolve(
            self._event(RunState.COMPLETE, time, job),
            inputs=[_input(facts, row) for row in _inputs(facts, stage) if "md5" in row],
            outputs=[
                OutputDataset(facts.space, row["path"], facets=_facets(facts, row))
                for row in stage["outs"]
                if "md5" in row
            ],
        )

    def failed(self, time: str, why: str, *, stopped: bool = False) -> RunEvent:
        """The event of its failure, or of its being stopped from outside."""
        message = error_message_run.ErrorMessageRunFacet(
            message=why, programmingLanguage="Python", producer=PRODUCER
        )
        state = RunState.ABORT if stopped else RunState.FAIL
        job = {"jobType": _job_type("DVC", "STAGE")}
        return self._event(state, time, job, {"errorMessage": message})

    def _event(
        self, state: RunState, time: str, job: dict[str, Any], run: dict[str, Any] | None = None
    ) -> RunEvent:
        name, run_id = self.parent
        parent = parent_run.ParentRunFacet(
            run=parent_run.Run(run_id), job=parent_run.Job(self.space, name), producer=PRODUCER
        )
        return RunEvent(
            eventType=state,
            eventTime=time,
            run=Run(self.run_id, {"parent": parent, **(run or {})}),
            job=Job(self.space, self.stage, job),
            producer=PRODUCER,
        )


def decision(row: Row) -> list[RunEvent]:
    """Start and end of an event of the ledger: registered, gated, promoted, rolled back...

    A registration makes the version of what the stages exported; a promotion makes it champion.
    """
    version = f"version/{row.version}"
    about = {"version": _version(str(row.version))}
    inputs = [InputDataset(row.model, version, facets=about)]
    made = "champion" if row.event in CHAMPION_EVENTS else None
    if row.event == Event.REGISTERED:
        files = row.facts().get("files", {})
        inputs, made = [InputDataset(row.model, str(EXPORTED / name)) for name in files], version
    job = {
        "documentation": _description(f"{row.event} by {row.actor}: {row.reason}"),
        "jobType": _job_type("LEDGER", row.event.upper()),
    }
    end = RunEvent(
        eventType=RunState.COMPLETE,
        eventTime=row.time,
        run=Run(_run_id(row.time, row.hash)),
        job=Job(row.model, row.event, job),
        inputs=inputs,
        outputs=[OutputDataset(row.model, made, facets=about)] if made else [],
        producer=PRODUCER,
    )
    return [_start(end), end]


def events(evidence: Evidence) -> list[RunEvent]:
    """A start and an end for every stage of a version, then for each of its rows in the ledger.

    Raises:
        EvidenceError: its record or its row in the ledger is missing or broken.
    """
    record, registration = evidence.record, evidence.registration
    if registration is None:
        raise EvidenceError("its row in the ledger is missing or broken", where=evidence.name)
    time, space = registration.time, evidence.model
    facts = Facts(
        space=space,
        commit=record["git"]["commit"],
        read=evidence.read,
        validation=lambda: record["validation"]["result"],
        manifest=evidence.names.path("manifest"),
        boxes=evidence.names.path("boxes"),
        made=evidence.outs(),
    )
    found = []
    for stage in record["stages"]:
        run_id = _run_id(time, f"{evidence.name}/{stage['name']}")
        parent = ("pipeline", _run_id(time, evidence.name))
        end = Execution(space, stage["name"], run_id, parent).completed(time, facts, stage)
        found += [_start(end), end]
    return [*found, *(event for row in evidence.own_rows for event in decision(row))]


def _inputs(facts: Facts, stage: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What a stage read, a folder of other stages' outputs as these."""
    for row in stage["deps"]:
        parts = below(row["path"], facts.made)
        yield from [{"path": path, "md5": facts.made[path]} for path in parts] or [row]


def _start(end: RunEvent) -> RunEvent:
    """The start event that the standard requires before every end."""
    return evolve(end, eventType=RunState.START, inputs=[], outputs=[])


def _run_id(time: str, name: str) -> str:
    """The same run id for the same thing at the same time."""
    return str(generate_static_uuid(datetime.fromisoformat(time), name.encode()))


def _job_type(integration: str, what: str) -> Any:
    return job_type_job.JobTypeJobFacet(
        processingType="BATCH", integration=integration, jobType=what, producer=PRODUCER
    )


def _description(text: str) -> Any:
    return documentation_job.DocumentationJobFacet(description=text, producer=PRODUCER)


def _version(name: str) -> Any:
    return dataset_version_dataset.DatasetVersionDatasetFacet(name, producer=PRODUCER)


def _input(facts: Facts, row: Mapping[str, Any]) -> InputDataset:
    """What a stage read; a table's rows and nulls, and the validation's checks of the manifest."""
    quality: dict[str, Any] = {}
    if row["path"] == facts.manifest:
        assertions = [
            data_quality_assertions_dataset.Assertion(
                assertion=check["name"], success=check["passed"]
            )
            for check in facts.validation().get("details", [])
        ]
        quality["dataQualityAssertions"] = (
            data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
                assertions=assertions, producer=PRODUCER
            )
        )
    if row["path"] in (facts.manifest, facts.boxes) and (data := _read(facts, row)):
        table = pq.read_table(data)
        columns = {
            name: data_quality_metrics_input_dataset.ColumnMetrics(
                nullCount=table[name].null_count, count=float(table.num_rows)
            )
            for name in table.column_names
        }
        quality["dataQualityMetrics"] = (
            data_quality_metrics_input_dataset.DataQualityMetricsInputDatasetFacet(
                columnMetrics=columns,
                rowCount=table.num_rows,
                bytes=row.get("size"),
                producer=PRODUCER,
            )
        )
    return InputDataset(facts.space, row["path"], facets=_facets(facts, row), inputFacets=quality)


def _facets(facts: Facts, row: Mapping[str, Any]) -> dict[str, Any]:
    """Version of a data set and, of a table, its columns."""
    found: dict[str, Any] = {"version": _version(row["md5"])}
    if row["path"].endswith(".parquet") and (table := _read(facts, row)):
        fields = [
            schema_dataset.SchemaDatasetFacetFields(name=field.name, type=str(field.type))
            for field in pq.read_schema(table)
        ]
        found["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields, producer=PRODUCER)
    return found


def _read(facts: Facts, row: Mapping[str, Any]) -> io.BytesIO | None:
    try:
        return io.BytesIO(facts.read(row["path"], row["md5"]))
    except (ImlError, OSError):
        return None


def to_file(path: Path) -> Transport:
    """Events as JSON lines, appended to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileTransport(FileConfig(log_file_path=str(path), append=True))


def to_server(url: str) -> Transport:
    """Events to an OpenLineage server; `$OPENLINEAGE_API_KEY` is its key where it requires one."""
    return HttpTransport(HttpConfig.from_dict({"url": url, "timeout": 10, "retry": {"total": 2}}))


def emit(found: list[RunEvent], transport: Transport, where: str) -> None:
    """Send events in order; raises UnavailableError where they are not accepted."""
    client = OpenLineageClient(transport=transport)
    try:
        for event in found:
            client.emit(event)
    except (requests.RequestException, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise UnavailableError(f"the events were not accepted ({reason})", where=where) from None
