"""What happens to the workspace's student once the stages are done: register, compare, gate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml

from components import workspace
from components.data import manifest
from components.evaluation.run import IMAGES, evaluate
from components.files import read_json
from components.lineage import record
from components.params import Params
from components.registry import chain, evidence, layout, promotion, registration
from components.registry.copies import fetch
from components.registry.gates import Comparison
from components.registry.ledger import actor_here
from components.registry.package import Package
from components.registry.projection import reconcile
from components.registry.promotion import Decision
from components.registry.versions import Registry
from components.seeds import fix_torch
from components.serving.predictor import Predictor

DATA, RUNS = Path("data"), Path("runs")


def package(params: Params) -> Package:
    """The workspace's student with everything that is recorded of it."""
    values = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    lineage = record.collect(values)
    metrics = {
        name: read_json(RUNS / "evaluate" / name / "metrics.json")
        for name in params.evaluate.datasets
    }
    reports = {f"evaluation/{name}": RUNS / "evaluate" / name for name in metrics}
    files = {
        **reports,
        "validation": RUNS / "validate",
        "pictures/contact_sheet.png": RUNS / "pseudo_label/contact_sheet.png",
        layout.MANIFEST: RUNS / "prepare/manifest.parquet",
    }
    f1 = metrics[params.prepare.dataset]["f1"]["value"]
    return Package(
        name=f"{params.distill.backbone} on {params.prepare.dataset}",
        folder=RUNS / "export",
        files=files,
        metrics=metrics,
        params=values,
        record=lineage,
        tags={
            "f1": "" if f1 is None else f"{f1:.4f}",
            "dataset": params.prepare.dataset,
            "teacher": params.pseudo_label.teacher,
            "git_commit": lineage["git"]["commit"],
        },
    )


def register(params: Params, tell: Callable[[str], None]) -> tuple[int, bool]:
    """The version of the workspace's student, and whether it is new in the registry.

    Args:
        params: params.yaml.
        tell: called with a sentence for each thing that had to be put right first.
    """
    registry = Registry.open(params.promotion.model)
    for note in reconcile(registry):
        tell(note)
    before = {row.version for row in registry.rows()}
    made = package(params)
    clean = made.record["git"]["clean"]
    version = registration.register(registry, made, clean=clean, actor=actor_here())
    return version, version not in before


def decide(params: Params, version: int) -> Decision:
    """Gate a version against thresholds and the reigning champion; promote it if all pass."""
    registry = Registry.open(params.promotion.model)
    reigning = chain.champion(registry.rows())
    rival = None if reigning in (None, version) else reigning
    found = evidence.gather(
        RUNS,
        params.prepare.dataset,
        dirty=workspace.git_dirty(),
        champion=reigning,
        comparison=_compare(params, rival) if rival else None,
    )
    return promotion.decide_and_promote(
        registry, version, found, params.promotion.gates, actor=actor_here()
    )


def _compare(params: Params, champion: int) -> Comparison:
    """Score the champion on today's test photos with today's code, and pair the two."""
    dataset = params.prepare.dataset
    photos = manifest.read(RUNS / "prepare").select(split="test").images
    fix_torch(params.evaluate.seed, params.evaluate.threads)
    predictor = Predictor(fetch(f"{params.promotion.model}/{champion}"))
    theirs = evaluate(predictor.probabilities, photos, DATA / dataset, params.evaluate).images
    ours = manifest.read_table(RUNS / "evaluate" / dataset / "images.parquet", IMAGES)
    return evidence.compare(champion, ours, theirs, params.evaluate)
