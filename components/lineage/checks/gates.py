"""Checks of the decisions on a version: every gating judged again from recorded evidence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from components.core.errors import CheckError
from components.core.files import sha256_bytes
from components.core.params import Promotion
from components.lineage.evidence import Evidence, parsed
from components.lineage.verdict import Finding, broken, compared, missing, verified
from components.registry import gates as judging
from components.registry import layout
from components.registry.chain import Event, Row
from components.registry.comparison import Comparison, Difference
from components.registry.gates import GateEvidence
from components.registry.layout import SIGNER
from components.registry.licences import licences
from components.registry.package import FILES

PARITY = "runs/export/parity.json"


def gates(evidence: Evidence) -> list[Finding]:
    """Every `gated` row of the version, and the verdicts that rest on them."""
    link = "gates"
    if evidence.record is None:
        return [missing(link, "rests on the lineage record, which is missing or broken")]
    own = [row for row in evidence.rows if row.version == evidence.version and row.intact()]
    gated = [row for row in own if row.event == Event.GATED]
    if not gated:
        return [missing(link, "the version was never gated", evidence.name)]
    found = [finding for row in gated for finding in _gating(evidence, row)]
    found += _decisions(own, {row.hash: row for row in gated})
    return found


def _gating(evidence: Evidence, row: Row) -> Iterator[Finding]:
    facts, where = row.facts(), f"ledger row {row.sequence}"
    record = evidence.record or {}
    parity = _parity(evidence)
    want = {
        "validation": record["validation"]["sha256"],
        "evaluation": record["evaluation"][evidence.gate_dataset]["sha256"],
        "parity": sha256_bytes(parity) if parity is not None else None,
    }
    if parity is None:
        yield missing("gates", "the parity of the ONNX export cannot be read", PARITY)
        return
    pairs: list[tuple[str, object, object]] = [
        (f"hash of {name}", want[name], digest)
        for name, digest in facts["hashes"].items()
        if name in want
    ]
    pairs.append(("record", evidence.facts["record_sha256"], facts["record_sha256"]))
    yield from compared("gates", "judged on this version's evidence", where, pairs)
    yield from _judged_again(evidence, facts, parsed(parity), where)


def _parity(evidence: Evidence) -> bytes | None:
    try:
        return evidence.read(PARITY, evidence.outs()[PARITY])
    except CheckError:
        return None


def _judged_again(
    evidence: Evidence, facts: dict[str, Any], parity: Any, where: str
) -> Iterator[Finding]:
    """The same gates over the same evidence give the same verdicts."""
    record = evidence.record or {}
    told = {gate["name"]: gate for gate in facts["gates"]}
    try:
        rules = Promotion.model_validate(
            {"model": evidence.model, "mode": facts.get("mode"), "gates": facts["thresholds"]}
        )
    except ValidationError:
        yield missing("gates", "judged by gates that this program does not know", where)
        return
    given = GateEvidence(
        validation=record["validation"]["result"],
        metrics=record["evaluation"][evidence.gate_dataset]["result"],
        parity=parity,
        dirty=_dirty(told.get("workspace_clean", {})),
        record=record,
        licences=licences(record),
        signer=evidence.facts.get(SIGNER),
        signature_problem="",
        megabytes=_megabytes(evidence),
        latency_ms=judging.finite(told.get(judging.LATENCY, {}).get("value")),
        comparison=_comparison(told, facts["champion"]),
        champion=facts["champion"],
        hashes=facts["hashes"],
    )
    again = judging.judge(evidence.version, given, rules)
    pairs = [
        (gate.name, _sides(told.get(gate.name)), (gate.passed, gate.value, gate.threshold))
        for gate in again
    ]
    yield from compared("gates", "judged again with the same verdicts", where, pairs)


def _sides(gate: dict[str, Any] | None) -> object:
    return gate and (gate["passed"], gate["value"], gate["threshold"])


def _dirty(gate: dict[str, Any]) -> list[str] | None:
    """The state of the workspace at the time of gating, which the gate itself records."""
    value = str(gate.get("value"))
    if value == "clean":
        return []
    number = value.partition(" ")[0]
    return ["?"] * int(number) if number.isdecimal() else None


def _megabytes(evidence: Evidence) -> float | None:
    path = evidence.files / layout.ARTIFACTS / FILES[0]
    return path.stat().st_size / 1e6 if path.is_file() else None


def _comparison(told: dict[str, Any], champion: int | None) -> Comparison | None:
    """The bounds that the gates record; the photos behind them were those of that day."""
    low = judging.finite(told.get(judging.F1_GATE, {}).get("value"))
    high = judging.finite(told.get(judging.ALARM_GATE, {}).get("value"))
    if champion is None:
        return None
    f1 = Difference(0.0, 0.0, 0.0, low, None, 0, 0)
    return Comparison(champion, f1, Difference(0.0, 0.0, 0.0, None, high, 0, 0), 0)


def _decisions(own: list[Row], gated: dict[str, Row]) -> list[Finding]:
    """Promotions rest on passed gates and, where a person decides, on an approval of them."""
    found = []
    approved = {row.hash: row for row in own if row.event == Event.APPROVED}
    for row in own:
        if row.event not in (Event.PROMOTED, Event.REJECTED):
            continue
        where, base = f"ledger row {row.sequence}", gated.get(row.facts().get("gated", ""))
        if base is None:
            found.append(broken("gates", "rests on no gating of this version", where))
            continue
        passed = all(gate["passed"] for gate in base.facts()["gates"])
        if passed != (row.event == Event.PROMOTED):
            found.append(
                broken("gates", f"{row.event} against its gates", where, not passed, passed)
            )
        approval = approved.get(row.facts().get("approved", ""))
        by_hand = row.event == Event.PROMOTED and base.facts().get("mode") == "approve"
        if by_hand and (approval is None or approval.facts().get("gated") != base.hash):
            found.append(broken("gates", "was promoted without the approval it needs", where))
    return found or [verified("gates", "every decision follows from its gates")]
