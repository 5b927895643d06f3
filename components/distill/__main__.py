"""Stage `distill`: pseudo-masks in, `student.safetensors`, its config and its curve out."""

from __future__ import annotations

import os

# Threads that spin while they wait starve each other on a small machine (5x slower was measured);
# OpenMP reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import csv
import io

from components.core import params
from components.core.errors import exit_on_error
from components.core.files import write_json, write_text
from components.core.paths import CURVE, DATA, DISTILL_SUMMARY, DISTILLED, PREPARED, PSEUDO_LABELED
from components.data import manifest
from components.distill import parallel
from components.distill.progress import ProgressReport, TrackedReport
from components.distill.run import Distilled, distill
from components.student import store
from components.student.backbones import weights_sha256

RUN_ID = "MLFLOW_RUN_ID"  # MLflow's own name for the run that a process is a part of


def _write(result: Distilled, student: params.StudentParams) -> None:
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
        "val_f1_best": best["val_f1_best"],
        "val_f1_at_1_percent": best["val_f1_at_1_percent"],
        "val_false_alarm_area": best["val_false_alarm_area"],
        "val_loss": best["val_loss"],
        "epochs": len(curve),
        "alpha": result.student.fusion.alpha().item(),
        "temperature": result.student.config.temperature,
        "image_threshold": result.student.config.image_threshold,
        "parameters": sum(value.numel() for value in result.student.parameters()),
        "backbone": {
            "name": student.backbone,
            "weights": student.weights,
            "sha256": weights_sha256(student.backbone, student.weights),
        },
        "annotation_hours": result.hours,
        **result.counts,
    }
    store.save(result.student, DISTILLED)
    write_text(CURVE, text.getvalue())
    write_json(DISTILL_SUMMARY, summary)


def main() -> None:
    """Read params.yaml, `runs/prepare` and `runs/pseudo_label`; write `runs/distill`.

    Started by `torchrun`, several processes train together and the first one writes. The MLflow
    run that `$MLFLOW_RUN_ID` names, if any, gets the curve while it grows.
    """
    with exit_on_error():
        settings, run_id = params.load(), os.environ.get(RUN_ID, "").strip()
        with parallel.context(settings.distill.device) as context:
            tracked = run_id and context.leads
            shown = TrackedReport(run_id) if tracked else ProgressReport(shown=context.leads)
            with shown as report:
                result = distill(
                    manifest.read(PREPARED),
                    DATA,
                    PSEUDO_LABELED,
                    settings.distill,
                    report,
                    context,
                )
                if context.leads:
                    _write(result, settings.distill.student)


if __name__ == "__main__":
    main()
