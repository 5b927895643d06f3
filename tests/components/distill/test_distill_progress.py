"""What a person sees of a training, on a pseudo-terminal and in a log."""

from __future__ import annotations

import os
import pty
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from components.distill import progress
from components.distill.progress import Epoch, ProgressReport, Validation


def _epoch(number: int, f1: float = 0.7123) -> Epoch:
    found = Validation(
        val_loss=0.25,
        val_f1=f1,
        val_f1_best=0.75,
        val_f1_at_1_percent=0.5,
        val_false_alarm_area=0.0234,
    )
    return Epoch(epoch=number, train_loss=0.5, **found, lr=1e-3)


class Screen:
    """A terminal that a test reads."""

    def __init__(self, master: int) -> None:
        self._master = master

    def text(self) -> str:
        """What was drawn since the last call, without its control codes."""
        os.set_blocking(self._master, False)
        parts = []
        try:
            while part := os.read(self._master, 65536):
                parts.append(part)
        except BlockingIOError:
            pass
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(parts).decode())

    def line_with(self, text: str) -> str:
        """The newest bar, once it has this text, up to its time left; waits for it."""
        drawn, deadline = "", time.monotonic() + 60
        whole = re.compile(rf".*{re.escape(text)}.*[-\d]:[-\d]{{2}}:[-\d]{{2}}")
        while not (found := whole.search(drawn)):
            assert time.monotonic() < deadline, drawn
            time.sleep(0.02)
            drawn += self.text()
        return found[0].rpartition("\r")[2]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Makes stderr a pseudo-terminal of 120 columns for the length of a block."""

    @contextmanager
    def opened() -> Iterator[Screen]:
        master, slave = pty.openpty()
        try:
            with open(slave, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
                patch.setattr(sys, "stderr", stream)
                patch.setenv("TERM", "xterm-256color")
                patch.setenv("COLUMNS", "120")
                for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
                    patch.delenv(name, raising=False)
                yield Screen(master)
        finally:
            os.close(master)

    return opened


def test_the_bar_shows_steps_loss_f1_and_time_left(terminal: Callable) -> None:
    with terminal() as screen, ProgressReport() as report:
        report.start(0, 4, 250)
        for _ in range(8):
            time.sleep(0.02)
            report.step(0.4321)
        before = screen.line_with("8/1000")
        report.epoch(_epoch(1))
        after = screen.line_with("val F1 0.712")
    assert "loss 0.4321  val F1 -" in before
    assert "8/1000 loss 0.4321" in after
    hours, minutes, seconds = (int(part) for part in re.findall(r"\d+", after)[-3:])
    # 992 steps of 0.02 s or more, on a busy machine many times that.
    assert 15 <= 3600 * hours + 60 * minutes + seconds < 3600
    assert "epoch" not in before + after  # that is the line of a log


def test_a_resumed_bar_starts_where_it_was(terminal: Callable) -> None:
    with terminal() as screen, ProgressReport() as report:
        report.start(3, 4, 10)
        report.step(0.1)
        assert "loss 0.1000" in screen.line_with("31/40")


def test_a_log_has_a_line_an_epoch_with_loss_f1_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([0.0, 100.0, 110.0, 130.0])  # made, started, two epochs
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    with ProgressReport() as report:
        report.start(2, 6, 5)
        report.step(0.4321)
        report.epoch(_epoch(3))
        report.epoch(_epoch(4, f1=0.8))
    # One epoch of 10 s and three to go; then two of 15 s on average and two to go.
    assert capsys.readouterr().err.splitlines() == [
        "resumed after epoch 2/6",
        "epoch 3/6  train loss 0.5000  val loss 0.2500  val F1 0.712  false alarms 2.3%  30 s left",
        "epoch 4/6  train loss 0.5000  val loss 0.2500  val F1 0.800  false alarms 2.3%  30 s left",
    ]


def test_a_fresh_training_says_nothing_of_resuming(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReport() as report:
        report.start(0, 1, 5)
        report.epoch(_epoch(1))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("epoch 1/1  ")
    assert line.endswith("  0 s left")


def test_a_process_that_is_not_shown_is_silent(
    terminal: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    def train() -> None:
        with ProgressReport(shown=False) as report:
            report.start(1, 2, 5)
            report.step(0.4)
            report.epoch(_epoch(2))

    with terminal() as screen:
        train()
        assert screen.text() == ""
    train()
    assert capsys.readouterr() == ("", "")
