"""Rules and evidence for the registry's tests: what passes, unless a test says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from components.core.params import Gates, Promotion
from components.registry.comparison import Comparison, Difference
from components.registry.gates import GateEvidence
from components.registry.package import Package
from components.registry.promotion import decide_and_promote, register
from components.registry.runs import Start
from components.registry.versions import Registry

GATES = Gates(
    min_f1=0.2,
    min_image_auc=0.5,
    max_false_alarm_area=0.2,
    max_ece=None,
    min_robustness=None,
    max_megabytes=None,
    max_latency_ms=None,
    allowed_licences=None,
    champion_margin=0.02,
    champion_alarm_margin=0.01,
    superiority=False,
    alpha=0.05,
    require_clean=False,
)
RULES = Promotion(model="m", mode="auto", gates=GATES)
BY_PEOPLE = RULES.model_copy(update={"mode": "approve"})
RECORD = {
    "git": {"commit": "c" * 40, "clean": True, "dirty": []},
    "dvc_lock": {"sha256": "l" * 64},
    "stages": [{"name": "distill", "outs": [{"path": "x"}], "params": {}}],
    "datasets": {"made": {"licence": "CC0-1.0", "boxes_sha256": "b" * 64}},
    "teacher": {"name": "grabcut", "sha256": "e" * 64},
    "validation": {"sha256": "v" * 64},
    "evaluation": {"made": {"sha256": "e" * 64, "result": {}}},
    "files": {"student.json": "f" * 64},
    "environment": {"packages": {"torch": "2"}},
    "seeds_and_threads": {"distill.seed": 7},
}


def rules(**gates: object) -> Promotion:
    """`RULES` with other thresholds."""
    return RULES.model_copy(update={"gates": GATES.model_copy(update=gates)})


def difference(candidate: float | None, champion: float, spread: float = 0.01) -> Difference:
    if candidate is None:
        return Difference(None, champion, None, None, None, 0, 0)
    value = candidate - champion
    return Difference(candidate, champion, value, value - spread, value + spread, 9, 5)


def comparison(champion: int, f1: float | None, left_out: int = 0) -> Comparison:
    """Against a champion of F1 0.5 and the same false alarms."""
    return Comparison(champion, difference(f1, 0.5), difference(0.01, 0.01, 0.005), left_out)


def evidence(
    champion: int | None = None, f1: float | None = 0.5, **changes: object
) -> GateEvidence:
    """GateEvidence that passes `RULES`, unless told otherwise."""
    passing = GateEvidence(
        validation={"passed": True},
        metrics={
            "f1": {"value": f1},
            "image_auc": {"value": 0.9},
            "false_alarm_area": {"value": 0.01},
        },
        parity={"tolerance": 1e-4, "sizes": [{"largest_difference": 1e-6}]},
        dirty=[],
        record=RECORD,
        licences={"data set made": "CC0-1.0"},
        signer="5" * 64,
        signature_problem="",
        megabytes=12.0,
        latency_ms=80.0,
        comparison=None if champion is None else comparison(champion, f1),
        champion=champion,
        hashes={"evaluation": str(f1)},
    )
    return replace(passing, **changes)


def packages(parent: Path) -> Callable[..., Package]:
    """Makes packages whose files are a few bytes: nothing here loads them."""

    def make(
        content: str = "a", dirty: tuple[str, ...] = (), lock: str = "lock", measured: str = "m"
    ) -> Package:
        folder = parent / f"export-{content}"
        folder.mkdir(exist_ok=True)
        for name in ("student.safetensors", "student.json", "student.onnx"):
            (folder / name).write_text(f"{content} {name}")
        record = {
            "git": {"commit": "c" * 40, "clean": not dirty, "dirty": list(dirty)},
            "dvc_lock": {"sha256": lock},
            "datasets": {"made": {"licence": "CC0-1.0", "boxes_sha256": "b" * 64}},
            "teacher": {"name": "grabcut", "sha256": "t" * 64},
            "validation": {"sha256": "v" * 64},
            "evaluation": {"made": {"sha256": measured * 64}},
            "files": {"parity.json": "p" * 64},
            "environment": {"packages": {"torch": "2"}},
        }
        return Package(
            start=Start(f"made {content}"),
            folder=folder,
            files={},
            metrics={"made": {"f1": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}}},
            params={"distill": {"seed": 7}},
            record=record,
            tags={"f1": "0.5", "git_commit": "c" * 40},
        )

    return make


def fill(registry: Registry, folder: Path) -> None:
    """Version 1 was champion, version 2 is."""
    make = packages(folder)
    for version, content in ((1, "a"), (2, "b")):
        champion = registry.ledger.champion(registry.model)
        assert register(registry, make(content), clean=True, actor="ann") == version
        found = evidence(champion)
        assert decide_and_promote(registry, version, found, RULES, actor="ann").promoted
