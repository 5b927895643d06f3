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
    from collections.abc import Sequence

    from components.annotate.ranking import Candidate, Ranked

SEED = 7
_SHOWN = 40  # photos on the terminal; JSON and the file have all


def rank(
    source: Annotated[
        str,
        typer.Argument(help="A data set, a folder, s3://bucket/prefix, or results of `iml score`."),
    ],
    order: Annotated[
        str, typer.Option(help="gain, random or score; doubt for a labelled data set.")
    ] = "gain",
    model: Model = CHAMPION,
    seed: Annotated[int, typer.Option(min=0, help="Of the order `random`.")] = SEED,
    out: Annotated[Path | None, typer.Option(help="Write the whole table as CSV.")] = None,
    as_json: AsJson = False,
) -> None:
    """List photos in the order in which to draw or check them.

    gain: the model is unsure about them and they differ from those before. score: the most
    suspicious first. random: to compare with. doubt: labels that are probably wrong, judged by
    students that are trained for it on the other photos; what is trained is kept, so a run that was
    stopped continues.
    """
    from components.annotate.photos import find

    place = named(source)
    photos = find(place, RUNS)
    if out:
        check_place(out)
    ranked = order_of(photos, place, order, model, seed)
    rows = [{"position": number, **asdict(row)} for number, row in enumerate(ranked, 1)]
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


def named(source: str) -> str:
    """A source's place: that of a data set given by name, else as it is."""
    from components.data.dataset import CARD

    return str(DATA / source) if (DATA / source / CARD).is_file() else source


def order_of(
    photos: Sequence[Candidate], place: str, order: str, model: str, seed: int
) -> list[Ranked]:
    """The photos at a place in an order, by the model if the order asks for one."""
    from components.annotate import ranking
    from components.core import params
    from components.data.dataset import CARD

    predictor = labelled = None
    if order in ranking.BY_MODEL:
        from components.serving import own_code

        predictor = own_code.load(find_student(model))
    if order == "doubt" and (Path(place) / CARD).is_file():
        labelled = ranking.Labelled(Path(place), params.load())
    with progress_bars() as bar:
        return ranking.rank(photos, order, predictor, seed, bar(order), labelled)


def ranked_names(path: Path) -> list[str]:
    """The photos of a table that `rank` wrote, in its order."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [row["name"] for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, KeyError):
        what = "not a table of photos"
        raise InputError(what, where=str(path), hint="use `iml dataset rank --out FILE`") from None


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(path, text.getvalue())
