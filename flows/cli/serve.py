"""`iml serve`: a student's answers over HTTP, and a page to drop a photo on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.predict import CHAMPION, Device, Model

if TYPE_CHECKING:
    from components.serving.origin import Student

_STOP = 30  # seconds that answers under way may take in the end


def serve(
    model: Model = CHAMPION,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    device: Device = "cpu",
    queue: Annotated[
        int, typer.Option(min=1, help="Photos at a time; more are answered with 429.")
    ] = 64,
    max_mb: Annotated[float, typer.Option(min=0.001, help="Refuse larger requests.")] = 32,
    max_megapixels: Annotated[float, typer.Option(min=0.01, help="Refuse larger photos.")] = 64,
    refresh: Annotated[
        float, typer.Option(min=0.1, help="Seconds between looks for a new champion.")
    ] = 30,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Another name that the server is called by; may be repeated."),
    ] = None,
) -> None:
    """Answer photos over HTTP, and serve a page to drop one on.

    POST /predict, GET /health, /metrics (Prometheus) and /docs; the page is at /.
    A new champion takes over without a restart. Ctrl-C or SIGTERM ends it, answers under way first.
    """
    from components.core import web
    from components.core.errors import UnavailableError
    from components.serving.http.app import Bounds
    from components.serving.http.app import serve as application
    from components.serving.http.metrics import Metrics
    from components.serving.http.models import Models

    listener = web.listen(host, port)
    metrics = Metrics()
    models = Models(lambda first: _find(model, first), metrics, device)
    try:
        models.refresh()
    except UnavailableError as error:
        models.note(error.line())  # it is looked for again
    bounds = Bounds(queue, max_mb, max_megapixels, refresh)
    app = application(models, metrics, bounds, [host, *(allow_host or [])])
    web.run(app, listener, lambda: _announce(host, listener.getsockname()[1]), _STOP)


def _announce(host: str, port: int) -> None:
    place = f"[{host}]" if ":" in host else host
    typer.echo(f"http://{place}:{port}/ (Ctrl-C ends it)")
    sys.stdout.flush()
    if host not in ("localhost", "::1") and not host.startswith("127."):
        typer.echo(
            "warning: whoever reaches this address may ask; nobody is asked who they are", err=True
        )


def _find(reference: str, first: bool) -> Student:
    """The student that is to answer; at first the last known champion will do."""
    if Path(reference).is_dir():
        from components.serving.origin import Student

        return Student(Path(reference), reference, None)
    from components.registry import downloads

    return downloads.fetch_lightly(reference, remembered=first)
