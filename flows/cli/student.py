"""`iml student`: pretrained weights without a model hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.cli._common import AsJson, Cutouts, Photos, sources

app = typer.Typer(help="Students: pretrain.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `pretrain` a command of its own name."""


@app.command()
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
    from components.core.files import check_folder
    from components.distill.progress import ProgressReport
    from research.sam_lite.sources import load
    from research.starts.pretraining import Plan, pretrain

    values = parameters.load().model_dump(by_alias=True)
    values["distill"]["student"] |= {"backbone": backbone, "weights": start, "size": size}
    values["distill"] |= {"batch": batch, "learning_rate": rate, "backbone_rate": 1.0}
    values["distill"] |= {"ema": 0.998, "threads": threads}
    settings = parameters.parse(values, "iml student pretrain").distill
    check_folder(out)
    folders = sources(photos, cutouts)
    learnt, held = (load(*folders, None, held_out=side) for side in (False, True))
    with ProgressReport() as report:
        made = pretrain(learnt, held, settings, Plan(steps, every), out, report)
    if as_json:
        typer.echo(json.dumps(made, indent=2))
        return
    best = made["best"]
    typer.echo(f"held-out composites: F1 {best['val_f1']:.3f}, loss {best['val_loss']:.4f}")
    for name, facts in made["files"].items():
        typer.echo(f"{out / name}, {facts['bytes']} bytes, SHA-256 {facts['sha256']}")
