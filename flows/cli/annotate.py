"""`iml annotate`: a page for drawing boxes; what is decided goes into a data set or an inbox."""

from __future__ import annotations

import re
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from components.core.paths import ANNOTATE, state_dir
from flows.cli._common import AsJson, new_table, print_json, show
from flows.cli.dataset import Track, folder_named, track_folder
from flows.cli.predict import CHAMPION, Model
from flows.cli.ranking import SEED, named, order_of

if TYPE_CHECKING:
    from components.annotate.adding import Added
    from components.annotate.decisions import Decisions
    from components.annotate.photos import Photo
    from components.ingest.inbox import Inbox


def annotate(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder, s3://bucket/prefix, results of `iml score`, or a data set to check."
        ),
    ],
    into: Annotated[
        str,
        typer.Option(
            help="Data set for what is decided, made if missing; or an inbox, s3://bucket/prefix."
        ),
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    annotator: Annotated[str, typer.Option(help="Name that the page suggests.")] = "",
    overlap: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the photos that two people decide about.")
    ] = 0.0,
    order: Annotated[
        str | None,
        typer.Option(
            help="What to draw first: gain, random, score, or doubt (see `iml dataset rank`); "
            "default: by name, results of `iml score` by score."
        ),
    ] = None,
    model: Model = CHAMPION,
    track: Track = True,
    as_json: AsJson = False,
) -> None:
    """Draw boxes in the browser, with the teacher's mask; Ctrl-C adds or sends what was decided.

    Every decision is saved at once below .state/annotate/. Started again, also after a crash, it
    continues where everybody was.
    """
    from components.annotate.adding import add, send
    from components.annotate.decisions import Decisions
    from components.annotate.photos import find, ordered
    from components.core import params
    from components.core.files import held

    settings, state = params.load(), state_dir()
    inbox = _inbox(into)
    folder = None if inbox else folder_named(into)
    source = named(source)
    photos = find(source, state)
    if order:
        photos = ordered(photos, order_of(photos, source, order, model, SEED))
    place = state / ANNOTATE / (_slug(into) if inbox else into) / _slug(source)
    with held(place / "lock", f"{source} is being annotated already"):
        decisions = Decisions(place / "decisions")
        report = _serve(source, into, photos, decisions, settings, port, annotator, overlap)
        if inbox:
            added = send(photos, decisions.all(), inbox, place)
        elif folder:
            most = settings.prepare.max_megapixels
            added = add(photos, decisions.all(), folder, source, most, place)
    if folder and (added.added or added.replaced):
        track_folder(folder, track)
    where = str(folder or into)
    if as_json:
        print_json({**report, "saved_in": str(place), "dataset": where, **asdict(added)})
    else:
        _tell(report, added, place, where, f"iml annotate {source} --into {into}")


def _inbox(into: str) -> Inbox | None:
    """The inbox at an S3 address; one that refuses does so before anybody draws."""
    from components.serving.sources import SCHEME

    if not into.startswith(SCHEME):
        return None
    from components.ingest.inbox import Inbox

    inbox = Inbox(into, "--into")
    inbox.batches()
    return inbox


def _slug(source: str) -> str:
    """A folder's name for a source, which stays the same from wherever it is named."""
    from components.core.files import sha256_bytes
    from components.serving.sources import SCHEME

    address = source if source.startswith(SCHEME) else str(Path(source).resolve())
    name = re.sub(r"[^\w.]+", "-", address.rstrip("/").rpartition("/")[2]).strip("-.")
    return f"{name[:40]}-{sha256_bytes(address.encode('utf-8', 'surrogateescape'))[:8]}"


def _serve(
    source: str,
    into: str,
    photos: list[Photo],
    decisions: Decisions,
    settings: Any,
    port: int,
    annotator: str,
    overlap: float,
) -> dict[str, Any]:
    """Serve the page until Ctrl-C; what was decided in all."""
    from components.annotate import server
    from components.annotate.desk import Desk
    from components.annotate.masks import Assistant
    from components.annotate.session import Session
    from components.core import web

    listener = web.listen(web.LOOPBACK, port)
    origin, token = f"http://{web.LOOPBACK}:{listener.getsockname()[1]}", secrets.token_urlsafe(32)
    desk = Desk([photo.name for photo in photos], decisions, overlap)
    assistant = Assistant(photos, settings.pseudo_label, settings.prepare.max_megapixels)
    session = Session(photos, decisions, desk, assistant)
    about = {"source": source, "dataset": into, "annotator": annotator}
    app = server.make(session, token, origin, about)
    try:
        web.run(app, listener, lambda: _announce(f"{origin}/#token={token}", len(photos)))
    finally:
        assistant.close()
    return session.report()


def _announce(address: str, photos: int) -> None:
    typer.echo(f"{photos} photos: open {address} (Ctrl-C ends)", err=True)


def _tell(report: dict[str, Any], added: Added, place: Path, where: str, again: str) -> None:
    """What was decided, where it is, and how to go on."""
    agreement = report["agreement"]
    rows: list[tuple[str, object]] = [
        ("photos decided", f"{report['decided']} of {report['photos']}")
    ]
    rows += [(f"marked {mark}", count) for mark, count in report["marks"].items() if count]
    rows.append(("attention", f"{report['seconds']:.0f} s"))
    if report["pace"]:
        rows.append(("pace", f"{report['pace']:.0f} photos an hour"))
    if agreement["photos"]:
        rows.append(("two opinions", f"{agreement['photos']} photos"))
        for key, what in (("kappa", "Cohen's kappa"), ("mean_iou", "mean IoU of boxes")):
            rows.append(
                (what, "not defined" if agreement[key] is None else f"{agreement[key]:.3f}")
            )
    rows += [(f"in {where}, {key}", getattr(added, key)) for key in ("added", "replaced", "known")]
    if added.batch:
        rows.append(("batch", added.batch))
    show(new_table("Annotated", "what", "value", rows=rows))
    if added.left_out:
        show(new_table("Not in the data set", "photo", "why", rows=added.left_out))
    typer.echo(f"decisions: {place}")
    typer.echo(f"to continue: {again}")
