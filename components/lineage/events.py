"""OpenLineage events: of a stage that runs, of a decision in the ledger, of a version afterwards.

They are exports of recorded facts. Flows emit a stage's events as it runs and a decision's when its
row is written. `events` tells of a registered version afterwards: the same version gives the same
events, with the same run ids, however often they are sent; its stages carry the time of
registration, because no stage records the time of day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import requests
from attr import evolve
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import error_message_run, parent_run
from openlineage.client.transport import Transport
from openlineage.client.transport.file import FileConfig, FileTransport
from openlineage.client.transport.http import HttpConfig, HttpTransport
from openlineage.client.uuid import generate_static_uuid

from components.core.errors import CheckError, UnavailableError
from components.lineage import facets
from components.lineage.evidence import Evidence
from components.lineage.facets import PRODUCER, Facts
from components.lineage.photos import require_record
from components.registry.chain import CHAMPION_EVENTS, Row


@dataclass(frozen=True)
class Execution:
    """One execution of a stage.

    Attributes:
        space: the namespace, which is the model's name.
        stage: its name in dvc.yaml.
        run_id: a UUID.
        parent: job name and run id of the run that it is a part of.
    """

    space: str
    stage: str
    run_id: str
    parent: tuple[str, str]

    def started(self, time: str) -> RunEvent:
        """The event of its start, at a time in ISO 8601."""
        return self._event(RunState.START, time, {"jobType": facets.kind("DVC", "STAGE")})

    def completed(self, time: str, facts: Facts, stage: Mapping[str, Any]) -> RunEvent:
        """The event of its end; `stage` is a stage of the lineage record."""
        return evolve(
            self._event(RunState.COMPLETE, time, facets.job(facts, stage["command"])),
            inputs=facets.inputs(facts, stage),
            outputs=facets.outputs(facts, stage),
        )

    def failed(self, time: str, why: str, *, stopped: bool = False) -> RunEvent:
        """The event of its failure, or of its being stopped from outside."""
        said = error_message_run.ErrorMessageRunFacet(
            message=why, programmingLanguage="Python", producer=PRODUCER
        )
        state = RunState.ABORT if stopped else RunState.FAIL
        kind = facets.kind("DVC", "STAGE")
        return self._event(state, time, {"jobType": kind}, {"errorMessage": said})

    def _event(
        self,
        state: RunState,
        time: str,
        job: dict[str, Any],
        run: dict[str, Any] | None = None,
    ) -> RunEvent:
        name, run_id = self.parent
        above = parent_run.ParentRunFacet(
            run=parent_run.Run(run_id), job=parent_run.Job(self.space, name), producer=PRODUCER
        )
        return RunEvent(
            eventType=state,
            eventTime=time,
            run=Run(self.run_id, {"parent": above, **(run or {})}),
            job=Job(self.space, self.stage, job),
            producer=PRODUCER,
        )


def decision(row: Row) -> list[RunEvent]:
    """Start and end of what happened to a version: registered, gated, promoted, rolled back..."""
    about = {"version": facets.version(str(row.version))}
    told = facets.told(f"{row.event} by {row.actor}: {row.reason}")
    promoted = row.event in CHAMPION_EVENTS
    end = RunEvent(
        eventType=RunState.COMPLETE,
        eventTime=row.time,
        run=Run(_run_id(row.time, row.hash)),
        job=Job(
            row.model,
            row.event,
            {"documentation": told, "jobType": facets.kind("LEDGER", row.event.upper())},
        ),
        inputs=[InputDataset(row.model, f"version/{row.version}", facets=about)],
        outputs=[OutputDataset(row.model, "champion", facets=about)] if promoted else [],
        producer=PRODUCER,
    )
    return [_start(end), end]


def events(evidence: Evidence) -> list[RunEvent]:
    """A start and an end for every stage of a version, then for each of its rows in the ledger.

    Raises:
        CheckError: its record or its row in the ledger is missing or broken.
    """
    record = require_record(evidence)
    if evidence.born is None:
        raise CheckError("its row in the ledger is missing or broken", where=evidence.name)
    time = evidence.born.time
    facts = Facts(
        evidence.model,
        record["git"]["commit"],
        evidence.read,
        lambda: record["validation"]["result"],
    )
    found = []
    for stage in record["stages"]:
        run_id = _run_id(time, f"{evidence.name}/{stage['name']}")
        parent = ("pipeline", _run_id(time, evidence.name))
        end = Execution(evidence.model, stage["name"], run_id, parent).completed(time, facts, stage)
        found += [_start(end), end]
    own = [row for row in evidence.rows if row.version == evidence.version and row.intact()]
    return [*found, *(event for row in own for event in decision(row))]


def _start(end: RunEvent) -> RunEvent:
    """The beginning that the standard asks for before every end."""
    return evolve(end, eventType=RunState.START, inputs=[], outputs=[])


def _run_id(time: str, name: str) -> str:
    """The same run id for the same thing at the same time."""
    return str(generate_static_uuid(datetime.fromisoformat(time), name.encode()))


def to_file(path: Path) -> Transport:
    """Events as JSON lines, appended to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileTransport(FileConfig(log_file_path=str(path), append=True))


def to_server(url: str) -> Transport:
    """Events to an OpenLineage server; `$OPENLINEAGE_API_KEY` is its key where it asks for one."""
    return HttpTransport(HttpConfig.from_dict({"url": url, "timeout": 10, "retry": {"total": 2}}))


def emit(found: list[RunEvent], transport: Transport, where: str) -> None:
    """Send events in order; raises UnavailableError where they are not taken."""
    client = OpenLineageClient(transport=transport)
    try:
        for event in found:
            client.emit(event)
    except (requests.RequestException, OSError, ValueError) as error:
        said = str(error).partition("\n")[0][:200]
        raise UnavailableError(f"the events were not accepted ({said})", where=where) from None
