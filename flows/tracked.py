"""The MLflow run of a retraining: begun before the first stage, live during the stages, then ended.

Nothing of MLflow is imported for a run that has nothing to do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import yaml

from components import workspace
from components.core.params import Params
from components.core.paths import DATA

if TYPE_CHECKING:  # it imports MLflow
    from components.registry.runs import Input, Live, Start


class Run:
    """The MLflow run of a retraining; there is none until it begins.

    Args:
        params: params.yaml.
        source: the command or deployment that runs.
    """

    def __init__(self, params: Params, source: str) -> None:
        self._params, self.source = params, source
        self.live: Live | None = None

    @property
    def id(self) -> str | None:
        """MLflow's id of it, once it has begun."""
        return self.live.run_id if self.live else None

    def begin(self) -> str:
        """Begin it, because stages have to run; gives its page, or its id where there is no server.

        Raises InputError where MLflow does not answer: no training starts whose version could not
        be registered.
        """
        from components.registry.tracking import Store

        self.live = Store().begin(self._params.promotion.model, start(self._params, self.source))
        return self.live.page or self.live.run_id

    @contextmanager
    def stages(self) -> Iterator[None]:
        """Let stages that are started in the block log into the run; record the machine's load."""
        if self.live is None:
            yield
            return
        # A data set called `system` has its metrics where MLflow puts the machine's.
        with self.live.watched(machine="system" not in self._params.evaluate.datasets):
            yield

    def seconds(self, stage: str, seconds: float) -> None:
        """Log how long a stage took."""
        if self.live:
            self.live.number(f"stage_seconds.{stage.replace('@', '.')}", seconds)


@contextmanager
def run(params: Params, source: str) -> Iterator[Run]:
    """The MLflow run of the block; it ends as FINISHED, FAILED or KILLED, as the block does."""
    made, status = Run(params, source), "KILLED"
    try:
        yield made
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        if made.live:
            made.live.end(status)


def start(params: Params, source: str) -> Start:
    """What is recorded of a run of this workspace at its start: name, user, source, data sets."""
    from mlflow.utils import mlflow_tags as tags

    from components.registry.ledger import actor_here
    from components.registry.runs import Start

    prepared = params.prepare.datasets
    names = [(name, "training") for name in prepared]
    names += [(name, "evaluation") for name in params.evaluate.datasets]
    inputs = [_input(name, context, prepared) for name, context in names]
    return Start(
        name=f"{params.distill.student.backbone} on {', '.join(prepared)}",
        tags={
            tags.MLFLOW_USER: actor_here(),
            tags.MLFLOW_SOURCE_NAME: source,
            tags.MLFLOW_SOURCE_TYPE: "LOCAL",
            tags.MLFLOW_GIT_COMMIT: workspace.git_commit(),
            tags.MLFLOW_GIT_DIRTY: str(bool(workspace.git_dirty())).lower(),
        },
        inputs=[entry for entry in inputs if entry],
    )


def _input(name: str, context: str, prepared: Collection[str]) -> Input | None:
    """A data set as DVC tracks it; None where it does not, so that nothing names its bytes.

    MLflow lists a data set once in a run, so a prepared one's test split has a name of its own.
    """
    from components.registry.runs import Input

    tracked = DATA / f"{name}.dvc"
    out = yaml.safe_load(tracked.read_text("utf-8"))["outs"][0] if tracked.is_file() else {}
    if "md5" not in out:
        return None
    part = "/test" if name in prepared and context == "evaluation" else ""
    place = (DATA / name).as_posix()
    return Input(f"{name}{part}", out["md5"], place, context, out.get("nfiles", 1), out["size"])
