"""What a person sees of a training: a live bar on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from queue import SimpleQueue
from threading import Thread
from typing import Protocol, TypedDict, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

# MLflow's client, where nobody should wait for a server that is away.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


class Validation(TypedDict):
    """A student's figures on the validation photos."""

    val_loss: float  # mean cross-entropy over the photos, nats per pixel
    # Mean F1 at 0.5 on the manipulated photos, against masks of the kind that is learnt
    val_f1: float
    # The same at the best threshold, and at that with 1 % false alarms (0 without authentic photos;
    # see `components.core.sweep`)
    val_f1_best: float
    val_f1_at_1_percent: float
    # Mean share of an authentic photo answered above 0.5; 0 where there are none
    val_false_alarm_area: float


class Epoch(Validation):
    """One row of the training curve."""

    epoch: int  # from 1
    train_loss: float  # mean over the epoch's photos, nats per pixel
    lr: float  # learning rate of the new layers at the epoch's end


class Watcher(Protocol):
    """Receives a training's progress."""

    def start(self, epoch: int, epochs: int, steps: int) -> None:
        """Training begins after `epoch` finished epochs, `steps` to each."""

    def step(self, loss: float) -> None:
        """One optimiser step is done."""

    def epoch(self, row: Epoch) -> None:
        """An epoch is finished."""


class ProgressReport:
    """A watcher that draws on stderr; use it as a context manager.

    Of several processes that train together only one is `shown`.
    """

    def __init__(self, shown: bool = True) -> None:
        self._console = Console(stderr=True)
        self._lines = shown and not self._console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("loss {task.fields[loss]:.4f}  val F1 {task.fields[f1]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (shown and self._console.is_terminal),
        )
        self._task = self._bar.add_task("distill", total=None, loss=0.0, f1="-")
        self._epochs = self._first = 0
        self._began = time.monotonic()

    def __enter__(self) -> ProgressReport:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._bar.stop()

    def start(self, epoch: int, epochs: int, steps: int) -> None:
        """See `Watcher`."""
        self._first, self._epochs, self._began = epoch, epochs, time.monotonic()
        self._bar.update(self._task, completed=epoch * steps, total=epochs * steps)
        if epoch and self._lines:
            self._line(f"resumed after epoch {epoch}/{epochs}")

    def step(self, loss: float) -> None:
        """See `Watcher`."""
        self._bar.update(self._task, advance=1, loss=loss)

    def epoch(self, row: Epoch) -> None:
        """See `Watcher`."""
        self._bar.update(self._task, f1=f"{row['val_f1']:.3f}")
        if not self._lines:
            return
        done = row["epoch"] - self._first
        left = (time.monotonic() - self._began) / done * (self._epochs - row["epoch"])
        self._line(
            f"epoch {row['epoch']}/{self._epochs}  train loss {row['train_loss']:.4f}  "
            f"val loss {row['val_loss']:.4f}  val F1 {row['val_f1']:.3f}  "
            f"false alarms {row['val_false_alarm_area']:.1%}  {left:.0f} s left"
        )

    @staticmethod
    def _line(text: str) -> None:
        print(text, file=sys.stderr, flush=True)


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

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        super().__exit__(kind)
        self._rows.put(None)
        if kind is None or issubclass(kind, Exception):  # not where a person stops it
            self._sender.join(self.PATIENCE)

    def epoch(self, row: Epoch) -> None:
        """See `Watcher`."""
        super().epoch(row)
        self._rows.put(row)

    def _send(self, run_id: str) -> None:
        # A server that is away costs the end of the training seconds, not minutes.
        for name, value in IMPATIENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        waiting: list[Metric] = []
        reported = False
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
                if not reported:
                    self._line(f"MLflow does not take the curve now ({type(wrong).__name__})")
                reported = True
