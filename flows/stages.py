"""One step per DVC stage: its lines go to the run's log, its failure is one line."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from components import workspace
from flows.catalogue import Catalogue
from flows.steps import run_logger, step


@dataclass(frozen=True)
class StageRun:
    """What became of one stage.

    Attributes:
        stage: its name in dvc.yaml.
        ran: False where DVC found its outputs up to date.
        seconds: wall time, DVC's own part included.
    """

    stage: str
    ran: bool
    seconds: float

    def row(self) -> dict[str, object]:
        """As plain JSON."""
        return asdict(self)


@step("{stage}")
def run_stage(stage: str, catalogue: Catalogue) -> StageRun:
    """Bring one stage up to date and tell the catalogue; raises `workspace.StageError`."""
    logger = run_logger()
    start = time.monotonic()
    with catalogue.stage(stage) as tell:
        ran = workspace.reproduce(stage, logger.info, on_start=tell)
    return StageRun(stage, ran, round(time.monotonic() - start, 1))
