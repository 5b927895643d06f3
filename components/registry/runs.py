"""MLflow runs in progress: how they begin, what they log as they go, how they end.

Nothing here stops a training: what MLflow does not take is one warning.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from components.core.errors import InputError, UnavailableError
from components.registry import connection

RUN_ID = "MLFLOW_RUN_ID"  # MLflow's own name for it, which stages read
MACHINE = "system/"  # MLflow's prefix for what the machine did
_PATIENCE = 2.0  # seconds
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Input:
    """A data set as MLflow lists it.

    Attributes:
        name: of the data set, or of a part of it.
        digest: DVC's hash of its folder.
        place: its folder, relative to the project.
        context: training | evaluation.
        files, size: how many files it has, and their bytes.
    """

    name: str
    digest: str
    place: str
    context: str
    files: int
    size: int

    def entity(self) -> DatasetInput:
        """As MLflow keeps it."""
        dataset = Dataset(
            self.name,
            self.digest,
            source_type="local",
            source=json.dumps({"uri": self.place, "dvc": f"{self.place}.dvc"}),
            profile=json.dumps({"files": self.files, "bytes": self.size}),
        )
        return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, self.context)])


@dataclass(frozen=True)
class Start:
    """What is known of a run before anything is trained.

    Attributes:
        name: for people.
        tags: user, source, git commit, under MLflow's names for them.
        inputs: data sets that it trains on or is evaluated on.
    """

    name: str
    tags: Mapping[str, str] = field(default_factory=dict)
    inputs: Sequence[Input] = ()


class Live:
    """A run in progress: its numbers as they come, and its end."""

    def __init__(self, uri: str, experiment: str, run_id: str) -> None:
        self.run_id = run_id
        self.page = connection.page(uri, f"experiments/{experiment}/runs/{run_id}")
        self._uri = uri
        self._warned = False

    @contextmanager
    def watched(self, *, machine: bool) -> Iterator[None]:
        """Pass the run on to processes started in the block; `machine` logs the load, too."""
        values = {RUN_ID: self.run_id, connection.SETTING: self._uri}
        with connection.impatient(), connection.variables(values):
            monitor = SystemMetricsMonitor(self.run_id, tracking_uri=self._uri) if machine else None
            try:
                if monitor:
                    # It would warn of a server that is away in many lines, with its address.
                    logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
                    monitor.start()
                yield
            finally:
                if monitor:
                    # It may be waiting for a server that is away.
                    ending = Thread(target=monitor.finish, daemon=True)
                    ending.start()
                    ending.join(_PATIENCE)

    def number(self, name: str, value: float) -> None:
        """Add a metric."""
        with self._tried() as client:
            client.log_metric(self.run_id, name, value, int(time.time() * 1000), 0)

    def end(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED; one that has ended stays as it is."""
        with self._tried() as client:
            if client.get_run(self.run_id).info.status == "RUNNING":
                client.set_terminated(self.run_id, status)

    @contextmanager
    def _tried(self) -> Iterator[MlflowClient]:
        try:
            with connection.impatient(), connection.answering(self._uri):
                yield MlflowClient(self._uri)
        except (InputError, UnavailableError) as error:
            if not self._warned:
                _logger.warning("the run in MLflow is not kept up to date: %s", error.line())
            self._warned = True
