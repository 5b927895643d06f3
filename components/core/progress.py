"""How far a stage is, in lines: DVC passes them on, and a run shows them while it works."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]  # called as progress(done, total)


def lines(label: str) -> Progress:
    """Called as progress(done, total), prints a line at every tenth of the photos."""

    def show(done: int, total: int) -> None:
        if done == total or done * 10 // total > (done - 1) * 10 // total:
            print(f"{label}: {done}/{total} photos", flush=True)

    return show
