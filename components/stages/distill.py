"""Stage `distill`: pseudo-masks in, `student.safetensors`, its config and its curve out."""

from __future__ import annotations

import os

# Threads that spin while they wait starve each other on a small machine (5x slower was measured);
# OpenMP reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import csv
import io
from pathlib import Path

from components import params
from components.data import manifest
from components.errors import exit_on_error
from components.files import write_json, write_text
from components.student import store
from components.student.backbones import weights_sha256
from components.training import parallel
from components.training.distill import Distilled, distill
from components.training.progress import ProgressReport

OUT = Path("runs/distill")


def _write(result: Distilled, told: params.Distill) -> None:
    """The stage's files, each atomically; nothing in them depends on the time of day."""
    curve = result.trained.history
    best = curve[result.trained.best_epoch - 1]
    text = io.StringIO()
    rows = csv.DictWriter(text, list(best), lineterminator="\n")
    rows.writeheader()
    rows.writerows(curve)
    summary = {
        "best_epoch": result.trained.best_epoch,
        "val_f1": best["val_f1"],
        "val_false_alarm_area": best["val_false_alarm_area"],
        "val_loss": best["val_loss"],
        "epochs": len(curve),
        "alpha": result.student.fusion.alpha().item(),
        "temperature": result.student.config.temperature,
        "image_threshold": result.student.config.image_threshold,
        "parameters": sum(value.numel() for value in result.student.parameters()),
        "backbone": {
            "name": told.backbone,
            "weights": told.weights,
            "sha256": weights_sha256(told.backbone, told.weights),
        },
        "annotation_hours": result.hours,
        **result.counts,
    }
    store.save(result.student, OUT)
    write_text(OUT / "history.csv", text.getvalue())
    write_json(OUT / "summary.json", summary)


def main() -> None:
    """Read params.yaml, `runs/prepare` and `runs/pseudo_label`; write `runs/distill`.

    Started by `torchrun`, several processes train together and the first one writes.
    """
    with exit_on_error():
        settings = params.load()
        with (
            parallel.team(settings.distill.device) as team,
            ProgressReport(shown=team.leads) as report,
        ):
            result = distill(
                manifest.read("runs/prepare"),
                Path("data") / settings.prepare.dataset,
                Path("runs/pseudo_label"),
                settings.distill,
                report,
                team,
            )
            if team.leads:
                _write(result, settings.distill)


if __name__ == "__main__":
    main()
