"""Sends a lineage catalogue the stages and decisions as they happen, as OpenLineage events.

The environment says where to, as OpenLineage defines it: `$OPENLINEAGE_URL` (and its API key), a
transport by `$OPENLINEAGE__TRANSPORT__TYPE`, or a file named in `$OPENLINEAGE_CONFIG`. Nothing set,
nothing sent. A run waits for the catalogue at most `PATIENCE` seconds in all, then sends beside its
work; what cannot be sent is one warning, after which it sends no more. It never fails.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import workspace
from components.core.errors import ImlError
from components.core.files import read_json
from components.core.paths import BOXES, MANIFEST, VALIDATION

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent

    from components.lineage.events import Execution
    from components.registry.chain import Row

SETTINGS = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__TRANSPORT__TYPE")
PATIENCE = 5.0  # seconds that a run waits for the catalogue, all events together
_logger = logging.getLogger(__name__)


class Catalogue:
    """The events of one run of one model; does nothing, and imports nothing, where none is set."""

    def __init__(self, model: str, run: str | None = None) -> None:
        """For one run, the stages' parent; `run` is its id, by default a new one."""
        self._model = model
        self._run = run or str(uuid.uuid4())
        self._on = any(os.environ.get(name, "").strip() for name in SETTINGS)
        self._client: Any = None
        self._said = False  # the one warning
        self._left = PATIENCE
        self._waiting: queue.Queue[tuple[list[RunEvent], threading.Event]] = queue.Queue()

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[], None]]:
        """Send the events of a stage that the block brings up to date.

        Args:
            name: in dvc.yaml.

        Yields:
            What the block calls when the stage starts; one that is up to date never does.
        """
        started = False

        @cache
        def execution() -> Execution:
            from openlineage.client.uuid import generate_new_uuid

            from components.lineage.events import Execution

            parent = ("retrain", self._run)
            return Execution(self._model, name, str(generate_new_uuid()), parent)

        def start() -> None:
            nonlocal started
            started = True
            self._send(lambda: [execution().started(_now())])

        try:
            yield start
        except BaseException as error:
            if not started:
                start()
            why = error.line() if isinstance(error, ImlError) else type(error).__name__
            stopped = not isinstance(error, Exception)
            self._send(lambda: [execution().failed(_now(), why, stopped=stopped)])
            raise
        if started:
            self._send(lambda: [self._completed(execution())])

    @contextmanager
    def decisions(self) -> Iterator[None]:
        """Send an event for every row that the ledger gets in the block."""
        before = [row.sequence for row in self._rows()]
        try:
            yield
        finally:
            self._send(lambda: self._decisions(before))

    def _decisions(self, before: list[int]) -> list[RunEvent]:
        from components.lineage.events import decision

        rows = [row for row in self._rows() if row.sequence not in before]
        return [event for row in rows for event in decision(row)]

    def _rows(self) -> list[Row]:
        if not self._on:
            return []
        from components.registry.ledger import Ledger

        try:
            return Ledger().rows(self._model)
        except ImlError as error:
            self._give_up(error)
            return []

    def _completed(self, execution: Execution) -> RunEvent:
        """The end of a stage, read from dvc.lock and the files in the workspace."""
        from components.lineage import record
        from components.lineage.events import Facts

        stages = workspace.read_lock()["stages"]
        outs = [row for stage in stages.values() for row in stage.get("outs", [])]
        facts = Facts(
            space=self._model,
            commit=workspace.git_commit(),
            read=lambda path, md5: Path(path).read_bytes(),
            validation=lambda: read_json(VALIDATION),
            manifest=str(MANIFEST),
            boxes=str(BOXES),
            # dvc.lock keeps the stages of data sets that are no longer named, but nothing of them
            # is here.
            made={
                row["path"]: row["md5"]
                for row in outs
                if "md5" in row and Path(row["path"]).exists()
            },
        )
        stage = record.stage(execution.stage, stages[execution.stage])
        return execution.completed(_now(), facts, stage)

    def _send(self, make: Callable[[], list[RunEvent]]) -> None:
        if not self._on:
            return
        try:
            if self._client is None:
                from openlineage.client import OpenLineageClient

                self._client = OpenLineageClient()
                threading.Thread(target=self._deliver, daemon=True).start()
            sent = threading.Event()
            self._waiting.put((make(), sent))
        except Exception as error:  # whatever the network, a setting or a file is: no run fails
            self._give_up(error)
        else:
            self._wait(sent)

    def _wait(self, sent: threading.Event) -> None:
        if self._left <= 0:
            return
        began = time.monotonic()
        if not sent.wait(self._left) and self._on:
            what = "OpenLineage events are slow: the run no longer waits for them"
            _logger.warning("%s, those of its end may be lost", what)
            self._said = True
        self._left -= time.monotonic() - began

    def _deliver(self) -> None:
        """Send what waits, in order, until one event is not accepted."""
        while self._on:
            events, sent = self._waiting.get()
            try:
                for event in events:
                    self._client.emit(event)
            except Exception as error:
                self._give_up(error)
            sent.set()

    def _give_up(self, error: Exception) -> None:
        self._on = False
        if not self._said:
            # Addresses may hold tokens, so none is repeated.
            _logger.warning("OpenLineage events are not sent: %s", type(error).__name__)
        self._said = True


def _now() -> str:
    return datetime.now(UTC).isoformat()
