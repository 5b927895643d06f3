"""What commands share: finding the model, options, and a progress bar on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from components.core.paths import DEMO_SOURCES, RUNS

if TYPE_CHECKING:
    from components.serving.origin import Student

CHAMPION = "boxpromptiml@champion"

# Of the recipes that train on composites of photos and cut-outs.
Photos = Annotated[list[Path] | None, typer.Option(help="Folder of photos; may be repeated.")]
Cutouts = Annotated[
    list[Path] | None, typer.Option(help="Folder of RGBA cut-outs; may be repeated.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def sources(photos: list[Path] | None, cutouts: list[Path] | None) -> tuple[list[Path], list[Path]]:
    """The folders that were named, by default those of the demo."""
    return photos or [DEMO_SOURCES / "photos"], cutouts or [DEMO_SOURCES / "cutouts"]


def find_student(reference: str) -> Student:
    """A student: in a local folder, else fetched from the registry.

    Args:
        reference: `name@alias`, `name/version` or a folder's path.

    Raises:
        InputError: no such folder and no such version.
    """
    # A folder needs no registry, whose import takes seconds.
    if Path(reference).is_dir():
        from components.serving.origin import Student

        return Student(Path(reference), reference, None)
    from components.registry.downloads import fetch

    return fetch(reference)


def run_flow(
    name: str, work: Callable[..., Any], flow: Callable[[], Any], arguments: dict[str, Any]
) -> Any:
    """Do a flow's work: on the server that the environment names, else in this process alone.

    Args:
        name: of the flow, for the notice of a failure.
        work: what the flow does, without Prefect.
        flow: gives the flow, whose import takes seconds.
        arguments: of both.
    """
    from components.core.errors import ImlError
    from flows import notify
    from flows.servers import server_named

    if server_named():
        result = flow()(**arguments, return_state=True).result(raise_on_failure=False)
        if isinstance(result, BaseException):
            raise result
        return result
    try:
        return work(**arguments)
    except ImlError as error:
        notify.send("failed", f"{name}: {error.line()}")
        raise


def result_place(command: str, subject: str | Path, student: Student) -> Path:
    """Where results go by default: below `runs/`, by what they are of and which model made them.

    Args:
        command: the folder below `runs/`; no stage's name.
        subject: a path or address; its last part names the results.
        student: what made them.
    """
    import re

    parts = [str(subject).rstrip("/").rpartition("/")[2], student.name.rstrip("/")]
    if student.version is None:
        parts[1] = Path(student.model).resolve().name
    name = "-".join(re.sub(r"[^\w.]+", "-", part).strip("-.") for part in parts)
    return RUNS / command / name


@contextmanager
def progress_bars() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Bars on stderr: `bar("predict")` gives what is called as progress(done, total)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def bar(label: str) -> Callable[[int, int], None]:
            task = bars.add_task(label, total=None, visible=False)
            return lambda done, total: bars.update(task, completed=done, total=total, visible=True)

        yield bar
