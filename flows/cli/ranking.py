"""`iml dataset rank`: what to draw or check next, as a table."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.core.errors import InputError
from components.core.files import check_place, write_text
from components.core.paths import DATA, RUNS
from flows.cli._common import AsJson, new_table, print_json, progress_bars, show
from flows.cli.predict import CHAMPION, Model, find_student

if TYPE_CHECKING:
    from components.annotate.ranking import Labelled

_SHOWN = 40  # photos on the terminal; JSON and the file have all


def rank(
    source: Annotated[
        str, typer.Argument(help="A data set (name or folder), a folder, or s3://bucket/prefix.")
    ],
    order: Annotated[
        str, typer.Option(help="gain, random or score; doubt for a labelled data set.")
    ] = "gain",
    model: Model = CHAMPION,
    seed: Annotated[int, typer.Option(min=0, help="Of the order `random`.")] = 7,
    out: Annotated[Path | None, typer.Option(help="Write the whole table as CSV.")] = None,
    as_json: AsJson = False,
) -> None:
    """List photos in the order in which to draw or check them.

    gain: the model is unsure about them and they differ from those before. score: the most
    suspicious first. random: to compare with. doubt: labels that are probably wrong, judged by
    students that are trained for it on the other photos; what is trained is kept, so a run that was
    stopped continues.
    """
    from components.annotate import ranking
    from components.data.dataset import PHOTOS
    from components.serving.sources import open_source

    labelled = _labelled(source)
    place = str(labelled.root / PHOTOS) if labelled else source
    photos = ranking.candidates(open_source(place, RUNS))
    if not photos:
        raise InputError("no photos in it", where=source)
    if out:
        check_place(out)
    predictor = None
    if order in ranking.BY_MODEL:
        from components.serving import own_code

        predictor = own_code.load(find_student(model))
    with progress_bars() as bar:
        ranked = ranking.rank(photos, order, predictor, seed, bar(order), labelled)
    rows = [{"position": place, **asdict(row)} for place, row in enumerate(ranked, 1)]
    if out:
        _write(out, rows)
    if as_json:
        print_json({"source": source, "order": order, "photos": rows})
        return
    cells = [(r["position"], r["name"], f"{r['value']:.3f}", r["reason"]) for r in rows[:_SHOWN]]
    show(new_table(f"{source}, by {order}", "position#", "photo", "value#", "reason", rows=cells))
    if len(rows) > _SHOWN:
        show(f"the first {_SHOWN} of {len(rows)} photos")
    if out:
        show(f"the whole table is in {out}")


def _labelled(source: str) -> Labelled | None:
    """The data set that a source is, given by name or folder; None for other sources."""
    from components.annotate.ranking import Labelled
    from components.core import params
    from components.data.dataset import CARD

    for folder in (DATA / source, Path(source)):
        if (folder / CARD).is_file():
            return Labelled(folder, params.load())
    return None


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(path, text.getvalue())
