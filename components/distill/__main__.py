"""Stage `distill`: pseudo-masks in, `student.safetensors`, its config and its curve out."""

from __future__ import annotations

import os

# Threads that spin while they wait starve each other on a small machine (5x slower was measured);
# OpenMP reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import csv
import io
import logging
import math
import sys
import time
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import cast

from components.core import params
from components.core.errors import exit_on_error
from components.core.files import write_json, write_text
from components.core.paths import CURVE, DATA, DISTILL_SUMMARY, DISTILLED, PREPARED, PSEUDO_LABELED
from components.data import manifest
from components.distill import parallel
from components.distill.progress import Epoch, ProgressReport
from components.distill.run import Distilled, distill
from components.student import store
from components.student.backbones import weights_sha256

RUN_ID = "MLFLOW_RUN_ID"  # MLflow's own name for the run that a process is a part of


class TrackedReport(ProgressReport):
    """Also logs each epoch into an MLflow run, from a thread of its own.

    Training neither waits for MLflow nor fails with it: epochs that could not be logged are sent
    with the next one, and registering the version adds what is still missing.
    """

    PATIENCE = 10.0  # seconds that the last epochs have after the training

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._rows: SimpleQueue[Epoch | None] = SimpleQueue()
        self._sender = Thread(target=self._send, args=(run_id,), daemon=True)

    def __enter__(self) -> TrackedReport:
        super().__enter__()
        self._sender.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        self._rows.put(None)
        if kind is None or issubclass(kind, Exception):  # not where a person stops it
            self._sender.join(self.PATIENCE)

    def epoch(self, row: Epoch) -> None:
        """See `Watcher`."""
        super().epoch(row)
        self._rows.put(row)

    def _send(self, run_id: str) -> None:
        # A server that is away costs the end of the training seconds, not minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        waiting: list[Metric] = []
        told = False
        for row in iter(self._rows.get, None):
            now, values = int(time.time() * 1000), cast("dict[str, float]", row).items()
            waiting += [
                Metric(name, value, now, row["epoch"])
                for name, value in values
                if name != "epoch" and math.isfinite(value)
            ]
            try:
                MlflowClient().log_batch(run_id, metrics=waiting)
                waiting = []
            except Exception as wrong:  # whatever it is, the training goes on
                if not told:
                    print(
                        f"MLflow does not take the curve now ({type(wrong).__name__})",
                        file=sys.stderr,
                        flush=True,
                    )
                told = True


def _write(result: Distilled, told: params.Distill) -> None:
    """The stage's files, each atomically; nothing in them depends on the time of day."""
    curve = result.trained.history
    best = curve[result.trained.best_epoch - 1]
    text = io.StringIO()
    rows = csv.DictWriter(text, list(best), lineterminator="\n")
    rows.writeheader()
    rows.writerows(curve)
    summary = {
        "best_epoch": result.trained.best_epoch,
        "val_f1": best["val_f1"],
        "val_false_alarm_area": best["val_false_alarm_area"],
        "val_loss": best["val_loss"],
        "epochs": len(curve),
        "alpha": result.student.fusion.alpha().item(),
        "temperature": result.student.config.temperature,
        "image_threshold": result.student.config.image_threshold,
        "parameters": sum(value.numel() for value in result.student.parameters()),
        "backbone": {
            "name": told.backbone,
            "weights": told.weights,
            "sha256": weights_sha256(told.backbone, told.weights),
        },
        "annotation_hours": result.hours,
        **result.counts,
    }
    store.save(result.student, DISTILLED)
    write_text(CURVE, text.getvalue())
    write_json(DISTILL_SUMMARY, summary)


def _report(leads: bool) -> ProgressReport:
    """What shows the training of this process."""
    run_id = os.environ.get(RUN_ID, "").strip()
    return TrackedReport(run_id) if run_id and leads else ProgressReport(shown=leads)


def main() -> None:
    """Read params.yaml, `runs/prepare` and `runs/pseudo_label`; write `runs/distill`.

    Started by `torchrun`, several processes train together and the first one writes. The MLflow
    run that `$MLFLOW_RUN_ID` names, if any, gets the curve while it grows.
    """
    with exit_on_error():
        settings = params.load()
        with (
            parallel.context(settings.distill.device) as context,
            _report(context.leads) as report,
        ):
            result = distill(
                manifest.read(PREPARED),
                DATA / settings.prepare.dataset,
                PSEUDO_LABELED,
                settings.distill,
                report,
                context,
            )
            if context.leads:
                _write(result, settings.distill)


if __name__ == "__main__":
    main()
