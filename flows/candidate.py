"""The workspace's student after the stages: registered, compared with the champion, gated."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from components import workspace
from components.core import paths
from components.core.errors import EvidenceError, InputError
from components.core.files import read_json, sha256_file
from components.core.params import Params
from components.data import manifest
from components.evaluate.gallery import Album, Example
from components.evaluate.run import IMAGES, evaluate
from components.evaluate.source import held_back
from components.lineage import record
from components.registry import (
    chain,
    comparison,
    decisions,
    documents,
    evidence,
    layout,
    promotion,
    signing,
    tombstones,
)
from components.registry.alias import opened
from components.registry.chain import Event, Row
from components.registry.comparison import Comparison
from components.registry.decisions import Exhibit
from components.registry.downloads import student, unknown_to, verified_copy
from components.registry.gates import GateEvidence
from components.registry.ledger import actor_here
from components.registry.package import Package
from components.registry.promotion import Decision
from components.registry.runs import Start
from components.registry.versions import Registry, registration
from components.serving import inference, own_code
from components.serving.predictor import Predictor
from components.workspace import repository
from flows import tracked

_Expected = tuple[Path, Callable[[Path], str], str | None]  # a file, how it is hashed, to what


def package(params: Params, start: Start) -> Package:
    """The workspace's student with everything that is recorded of it, and its run's beginning."""
    values = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    lineage = record.collect(values)
    places = {name: paths.EVALUATED / name for name in params.evaluate.datasets}
    metrics = {name: read_json(place / paths.METRICS) for name, place in places.items()}
    files = {
        # No page or sheet that shows photos: a signed file could not be erased.
        **{
            f"evaluation/{name}/{file}": place / file
            for name, place in places.items()
            for file in (paths.METRICS, paths.IMAGES, paths.EVALUATION_PAGE)
        },
        "validation": paths.VALIDATED,
        layout.CURVE: paths.CURVE,
        layout.MANIFEST: paths.MANIFEST,
    }
    f1 = metrics[params.gate_dataset]["f1"]["value"]
    return Package(
        start=start,
        folder=paths.EXPORTED,
        files=files,
        documents={
            layout.CARD: documents.card(params.promotion.model, lineage),
            layout.BOM: documents.bom(params.promotion.model, lineage),
        },
        description=documents.summary(lineage),
        metrics=metrics,
        params=values,
        record=lineage,
        tags={
            "f1": "" if f1 is None else f"{f1:.4f}",
            "dataset": ", ".join(params.prepare.datasets),
            "teacher": params.pseudo_label.teacher,
            "git_commit": lineage["git"]["commit"],
        },
    )


def register(
    params: Params,
    warn: Callable[[str], None],
    source: str,
    run_id: str | None = None,
    *,
    pin: bool = False,
) -> tuple[int, bool]:
    """The version of the workspace's student, and whether it is new in the registry.

    Args:
        params: params.yaml.
        warn: called with a sentence for each thing that had to be put right first.
        source: the command or deployment that registers it.
        run_id: the MLflow run that trained it; a new one where there is none.
        pin: whether to tag a new version's commit here; deployments push a tag of their own.
    """
    registry, _ = opened(params.promotion.model, warn, writing=True)
    before = registry.rows()
    signing.check_key(lambda: bool(before))
    made = package(params, tracked.start(params, source))
    clean = made.record["git"]["clean"]
    version = promotion.register(registry, made, clean=clean, actor=actor_here(), run_id=run_id)
    for row in registry.rows()[len(before) :]:
        if row.event == Event.CONFIRMED:
            warn(f"version {version} of {registry.model} is confirmed: {row.reason}")
    new = version not in {row.version for row in before}
    if new and pin:
        repository.pin(params.promotion.model, version, made.record["git"]["commit"])
    return version, new


def decide(params: Params, version: int) -> Decision:
    """Gate a version against thresholds and the champion; promote it if all pass.

    Writes the decision's page below the state folder.

    Raises:
        InputError: the workspace's student, or what was measured of it, is not this version's.
    """
    registry = Registry.open(params.promotion.model)
    rows = registry.rows()
    registered = registration(rows, version)
    attested = evidence.attest(registry, version, registered.facts())
    again = workspace.lock_hash() in chain.confirmations(rows, version)
    _check_same_version(registered, attested.record, params.gate_dataset, again=again)
    current = chain.champion(rows)
    twin = current in registered.facts().get(layout.TWINS, ())
    budget = params.promotion.gates.max_latency_ms
    album = _album(params)
    champion, compared, why = None, None, ""
    if not twin:
        champion, compared, why = _contest(params, registry, rows, version, album)
    found = evidence.collect(
        params.gate_dataset,
        attested=attested,
        dirty=workspace.git_dirty(),
        champion=current,
        comparison=compared,
        incomparable=why,
        latency_ms=None if budget is None else inference.milliseconds(_ours(params)),
        twin=twin,
        erased=_erased() if params.erasure.retire else None,
    )
    decision = promotion.decide_and_promote(
        registry, version, found, params.promotion, actor=actor_here()
    )
    _write_page(params, registry, decision, found, champion, album)
    return decision


def _erased() -> int:
    """How many of the photos that the workspace's student was trained or tuned on were erased."""
    images = manifest.read(paths.PREPARED).images
    learned = images[images["split"] != "test"]["sha256"]
    return int(learned.isin(tombstones.read(paths.TOMBSTONES).photos.keys()).sum())


def _write_page(
    params: Params,
    registry: Registry,
    decision: Decision,
    found: GateEvidence,
    champion: Exhibit | None,
    album: Album,
) -> None:
    """Write the decision's page, unless the page there is already of this gating.

    A champion that is gated again is not compared any more: its page keeps what it won by.
    """
    rows, version = registry.ledger.rows(registry.model), decision.version
    gated, _ = chain.last_gating(rows, version)
    if gated is None or decisions.shown(registry.model, version) == gated.hash:
        return
    sections: dict[str, list[Example]] = {}
    if found.record is not None:  # else nobody knows whether runs/ is this version's
        predict = _ours(params).probabilities
        sections = decisions.photos(
            album, Exhibit(version, _scored(params.gate_dataset), predict), champion
        )
    reports = {n: paths.EVALUATED / n / paths.EVALUATION_PAGE for n in params.evaluate.datasets}
    decisions.write(rows, decision, found, sections, reports)


def _ours(params: Params) -> Predictor:
    """The workspace's student, run as it was evaluated."""
    return Predictor(paths.EXPORTED, params.evaluate.threads)


def _album(params: Params) -> Album:
    """The photos that decide: those that the workspace's student was scored on."""
    if params.gate_dataset in params.prepare.datasets:
        photos = manifest.read(paths.PREPARED).select(split="test", dataset=params.gate_dataset)
        return Album(photos, paths.DATA, paths.PSEUDO_MASKS)
    root = paths.DATA / params.gate_dataset
    photos, _ = held_back(root, params.prepare)
    scored = _scored(params.gate_dataset)["image_id"]
    return Album(photos.where(photos.images["image_id"].isin(scored)), root)


def _scored(dataset: str) -> pd.DataFrame:
    """The workspace's student on each test photo."""
    return manifest.read_table(paths.EVALUATED / dataset / paths.IMAGES, IMAGES)


def _check_same_version(
    registered: Row, record: Mapping[str, Any] | None, dataset: str, *, again: bool = False
) -> None:
    """Raise InputError when runs/ holds another version's student or evidence.

    Args:
        registered: the version's row.
        record: its lineage record; without it, which the gates refuse, only the student is
            compared.
        dataset: whose evaluation decides.
        again: whether the ledger says that this workspace's dvc.lock made the version again.
    """
    files = registered.facts()["files"].items()
    expected: list[_Expected] = [(paths.EXPORTED / name, sha256_file, h) for name, h in files]
    if record is not None:
        stages = workspace.read_lock()["stages"].values() if again else record["stages"]
        expected += _evidence(record, stages, paths.EVALUATED / dataset)
    for path, digest, recorded in expected:
        if not path.is_file() or digest(path) != recorded:
            raise InputError(
                f"is not {registered.model}/{registered.version}'s",
                where=str(path),
                hint="run `iml run`, or check out that version's commit and `dvc checkout`",
            )


def _evidence(
    record: Mapping[str, Any], stages: Iterable[Mapping[str, Any]], place: Path
) -> list[_Expected]:
    """The files that a decision rests on, with their hashes in a version's record and stages."""
    made = {row["path"]: row.get("md5") for stage in stages for row in stage["outs"]}
    others = [paths.PARITY, place / paths.IMAGES, paths.MANIFEST, paths.BOXES]
    measured = record["evaluation"].get(place.name, {}).get("sha256")
    return [
        (paths.VALIDATION, sha256_file, record["validation"]["sha256"]),
        (place / paths.METRICS, sha256_file, measured),
        *((path, _md5, made.get(path.as_posix())) for path in others),
    ]


def _md5(path: Path) -> str:
    """As DVC names a file."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _contest(
    params: Params, registry: Registry, rows: Sequence[Row], version: int, album: Album
) -> tuple[Exhibit | None, Comparison | None, str]:
    """The champion and the comparison with it, or why there is none."""
    current = chain.champion(rows)
    if current in (None, version):
        return None, None, ""
    try:
        champion = _champion(params, registry, registration(rows, current), album)
        return champion, _compare(params, champion, album), ""
    except (InputError, EvidenceError) as error:
        return None, None, error.line()


def _champion(params: Params, registry: Registry, registered: Row, album: Album) -> Exhibit:
    """Score the champion on the photos that the version was scored on.

    Photos that the champion itself was trained or tuned on are left out: it would know them.
    """
    champion = registered.version
    folder = verified_copy(registry, registered)
    fair = unknown_to(folder, album.photos.images)
    loaded = own_code.load(student(folder, registered), params.evaluate.threads)
    predict = loaded.probabilities
    if fair.empty:
        return Exhibit(champion, pd.DataFrame(columns=IMAGES.names), predict)
    return Exhibit(champion, evaluate(predict, fair, album.root, params.evaluate).images, predict)


def _compare(params: Params, champion: Exhibit, album: Album) -> Comparison:
    """Pair the workspace's student with the champion, on the photos that are fair to both."""
    ours, theirs = _scored(params.gate_dataset), champion.images
    ours = ours[ours["image_id"].isin(theirs["image_id"])]
    gates = params.promotion.gates
    trial = comparison.Trial(gates.alpha, params.evaluate.bootstrap, params.evaluate.seed)
    left_out = len(album.photos.images) - len(theirs)
    return comparison.compare(champion.version, ours, theirs, trial, left_out=left_out)
