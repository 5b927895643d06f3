"""How far a stage is, in lines: DVC passes them on, and a run shows them while it works."""

from __future__ import annotations

from collections.abc import Callable


def lines(label: str) -> Callable[[int, int], None]:
    """Called as progress(done, total), prints a line at every tenth of the photos."""

    def show(done: int, total: int) -> None:
        if done == total or done * 10 // total > (done - 1) * 10 // total:
            print(f"{label}: {done}/{total} photos", flush=True)

    return show
