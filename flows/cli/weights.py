"""`iml teacher` and `iml student`: weights listed, fetched, trained, without a model hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from components.core.files import check_folder
from components.core.paths import DEMO_SOURCES
from flows.cli._common import AsJson, add_row, new_table, print_json, progress_bars, show

teacher = typer.Typer(help="Teachers that turn boxes into pseudo-masks.", no_args_is_help=True)
student = typer.Typer(help="Students: pretrain.", no_args_is_help=True)

Photos = Annotated[list[Path] | None, typer.Option(help="Folder of photos; may be repeated.")]
Cutouts = Annotated[
    list[Path] | None, typer.Option(help="Folder of RGBA cut-outs; may be repeated.")
]


@student.callback()
def _group() -> None:
    """Keep `pretrain` a command of its own name."""


def _folders(
    photos: list[Path] | None, cutouts: list[Path] | None
) -> tuple[list[Path], list[Path]]:
    """The folders that were named, by default those of the demo."""
    return photos or [DEMO_SOURCES / "photos"], cutouts or [DEMO_SOURCES / "cutouts"]


def _teachers() -> list[dict[str, Any]]:
    from components.pseudo_label.registry import fetched, specs

    rows: list[dict[str, Any]] = []
    for spec in (*specs().values(), *fetched()):
        known = spec.weights
        here = known.on_disk() if known else None
        rows.append(
            {
                "name": spec.name,
                "kind": spec.kind,
                "weights_bytes": known.size if known else 0,
                "sha256": known.sha256 if known else None,
                "licence": spec.licence,
                "on_disk": here,
                "path": str(known.path) if known and here else None,
            }
        )
    return rows


@teacher.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the values of `pseudo_label.teacher` and whether their weights are on disk."""
    rows = _teachers()
    if as_json:
        print_json(rows)
        return
    table = new_table("Teachers", "name", "kind", "weights#", "licence", "on disk")
    for row in rows:
        size = f"{row['weights_bytes'] / 1e6:,.0f} MB" if row["weights_bytes"] else "none"
        here = {True: "yes", False: "no", None: "not needed"}[row["on_disk"]]
        add_row(table, row["name"], row["kind"], size, row["licence"], here)
    show(table)
    typer.echo("SAM, SAM-HQ, SAM 2 and EdgeTAM in Hugging Face format: hf:NAME@COMMIT or hf:FOLDER")


@teacher.command()
def fetch(
    name: Annotated[
        str,
        typer.Argument(help="A teacher whose weights are published elsewhere, or hf:NAME@COMMIT."),
    ],
    as_json: AsJson = False,
) -> None:
    """Download a teacher's weights, continuing an interrupted download.

    The hash is checked before a file is put in place. IML_SAM_MIRROR names another server for
    Segment Anything's and MobileSAM's, HF_ENDPOINT for models in Hugging Face format.
    """
    from components.pseudo_label.registry import downloadable

    weights = downloadable(name)
    path = weights.fetch_with_bar()
    if as_json:
        print_json({"name": name, "path": str(path), "sha256": weights.sha256})
    else:
        typer.echo(f"{path}: SHA-256 {weights.sha256} verified")


@teacher.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, weights and metrics.")],
    photos: Photos = None,
    cutouts: Cutouts = None,
    regions: Annotated[
        Path | None, typer.Option(help="Region data in the layout of BSDS500.")
    ] = None,
    start: Annotated[Path | None, typer.Option(help="Initial weights.")] = None,
    steps: Annotated[int, typer.Option(min=1)] = 6000,
    seed: Annotated[int, typer.Option(min=0)] = 7,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    as_json: AsJson = False,
) -> None:
    """Train sam_lite on composites of photos and cut-outs; a killed run continues."""
    from research.sam_lite.command import train_command

    check_folder(out)
    with progress_bars() as bar:
        report = train_command(
            *_folders(photos, cutouts),
            regions,
            out,
            steps=steps,
            seed=seed,
            threads=threads,
            start=start,
            progress=bar("train"),
        )
    if as_json:
        print_json(report)
        return
    columns = ("kind", "pairs#", "IoU#", "confidence#", "filled box#")
    rows = [
        (kind, row["n"], *(f"{row[name]:.3f}" for name in ("iou", "confidence", "box")))
        for kind, row in report["tuning"].items()
    ]
    show(new_table("Held-out pairs", *columns, rows=rows))
    typer.echo(f"{report['weights']}, SHA-256 {report['sha256']}")


@student.command()
def pretrain(
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, weights and metrics.")],
    photos: Photos = None,
    cutouts: Cutouts = None,
    backbone: Annotated[str, typer.Option(help="Its name in timm.")] = "mobilenetv3_large_100",
    start: Annotated[
        str, typer.Option(help="Initial weights of the backbone, as for `distill.student.weights`.")
    ] = "none",
    steps: Annotated[int, typer.Option(min=1)] = 3000,
    every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 250,
    size: Annotated[int, typer.Option(min=64, help="Side of the input square, in pixels.")] = 128,
    batch: Annotated[int, typer.Option(min=2)] = 32,
    rate: Annotated[float, typer.Option(min=0, help="Peak learning rate.")] = 0.002,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    as_json: AsJson = False,
) -> None:
    """Pretrain a backbone to imitate EfficientNet-Lite0 and to find pastes; needs no hub.

    Architecture and seed are those of `distill` in params.yaml. Use the file it makes as
    `distill.student.weights`. A killed run continues where it stopped.
    """
    from components.core import params as parameters
    from components.distill.progress import ProgressReport
    from research.sam_lite.sources import load
    from research.starts.pretraining import Plan
    from research.starts.pretraining import pretrain as make

    values = parameters.load().model_dump(by_alias=True)
    values["distill"]["student"] |= {"backbone": backbone, "weights": start, "size": size}
    values["distill"] |= {"batch": batch, "learning_rate": rate, "backbone_rate": 1.0}
    values["distill"] |= {"ema": 0.998, "threads": threads}
    settings = parameters.parse(values, "iml student pretrain").distill
    check_folder(out)
    folders = _folders(photos, cutouts)
    learnt, held_out = (load(*folders, None, held_out=side) for side in (False, True))
    with ProgressReport() as report:
        made = make(learnt, held_out, settings, Plan(steps, every), out, report)
    if as_json:
        print_json(made)
        return
    best = made["best"]
    typer.echo(f"held-out composites: F1 {best['val_f1']:.3f}, loss {best['val_loss']:.4f}")
    for name, facts in made["files"].items():
        typer.echo(f"{out / name}, {facts['bytes']} bytes, SHA-256 {facts['sha256']}")
