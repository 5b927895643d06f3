"""Checks of the decisions on a version: the gates run again on the recorded evidence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from components.core.errors import CheckError
from components.core.files import sha256_bytes
from components.core.params import Promotion
from components.lineage.evidence import PARITY, Evidence, parsed
from components.lineage.verdict import Finding, Pair, broken, compared, missing, verified
from components.registry import chain, layout
from components.registry import gates as rules
from components.registry.chain import Event, Row
from components.registry.comparison import Comparison, Difference
from components.registry.gates import GateEvidence
from components.registry.licences import licences
from components.registry.package import FILES


def gates(evidence: Evidence) -> Iterator[Finding]:
    """Every `gated` row of the version, and the decisions that rest on them."""
    gated = [row for row in evidence.own_rows if row.event == Event.GATED]
    if not gated:
        yield missing("the version was never gated", evidence.name)
        return
    for row in gated:
        yield from _gating(evidence, row)
    wrong = list(_wrong_decisions(evidence.own_rows, {row.hash: row for row in gated}))
    yield from wrong or [verified("every decision follows from its gates")]


def _gating(evidence: Evidence, row: Row) -> Iterator[Finding]:
    """One gating: it used this version's evidence, and its gates return the same verdicts again."""
    facts, record, where = row.facts(), evidence.record, f"ledger row {row.sequence}"
    try:
        parity = evidence.output(PARITY)
    except CheckError:
        yield missing("the parity of the ONNX export cannot be read", PARITY)
        return
    expected = {
        "validation": record["validation"]["sha256"],
        "evaluation": record["evaluation"][evidence.gate_dataset]["sha256"],
        "parity": sha256_bytes(parity),
    }
    pairs: list[Pair] = [
        (f"hash of {name}", expected[name], digest)
        for name, digest in facts["hashes"].items()
        if name in expected
    ]
    pairs.append(("record", evidence.facts["record_sha256"], facts["record_sha256"]))
    yield from compared("the gates used this version's evidence", where, pairs)
    try:
        promotion = Promotion.model_validate(
            {"model": evidence.model, "mode": facts.get("mode"), "gates": facts["thresholds"]}
        )
    except ValidationError:
        yield missing("its gates are unknown to this program", where)
        return
    recorded = {gate["name"]: gate for gate in facts["gates"]}
    again = rules.judge(
        evidence.version, _gate_evidence(evidence, facts, recorded, parsed(parity)), promotion
    )
    pairs = [
        (gate.name, _sides(recorded.get(gate.name)), (gate.passed, gate.value, gate.threshold))
        for gate in again
    ]
    yield from compared("the gates return the same verdicts again", where, pairs)


def _gate_evidence(
    evidence: Evidence, facts: dict[str, Any], recorded: dict[str, Any], parity: Any
) -> GateEvidence:
    """The evidence at the time; what only the gates recorded is taken from them."""
    record = evidence.record
    student = evidence.files / layout.ARTIFACTS / FILES[0]
    return GateEvidence(
        validation=record["validation"]["result"],
        metrics=record["evaluation"][evidence.gate_dataset]["result"],
        parity=parity,
        dirty=_dirty(recorded.get("workspace_clean", {})),
        record=record,
        licences=licences(record),
        signer=evidence.facts.get(layout.SIGNER),
        signature_problem="",
        megabytes=student.stat().st_size / 1e6 if student.is_file() else None,
        latency_ms=rules.finite(recorded.get(rules.LATENCY, {}).get("value")),
        comparison=_comparison(recorded, facts["champion"]),
        champion=facts["champion"],
        hashes=facts["hashes"],
        incomparable=_incomparable(recorded),
    )


def _sides(gate: dict[str, Any] | None) -> object:
    return gate and (gate["passed"], gate["value"], gate["threshold"])


def _dirty(gate: dict[str, Any]) -> list[str] | None:
    """As many uncommitted paths as the gate counted."""
    value = str(gate.get("value"))
    if value == "clean":
        return []
    number = value.partition(" ")[0]
    return ["?"] * int(number) if number.isdecimal() else None


def _incomparable(recorded: dict[str, Any]) -> str:
    """Why the champion could not be compared, where a gate records that."""
    found = (gate for gate in recorded.values() if gate["value"] == chain.NOT_COMPARABLE)
    return next((gate["reason"] for gate in found), "")


def _comparison(recorded: dict[str, Any], champion: int | None) -> Comparison | None:
    """The bounds that the gates record; the photos behind them were those of that day."""
    if champion is None:
        return None
    low = rules.finite(recorded.get(rules.F1_GATE, {}).get("value"))
    high = rules.finite(recorded.get(rules.ALARM_GATE, {}).get("value"))
    # Of the counts the gates record the least, which is that of the comparison or of the metrics.
    counts = [recorded.get(name, {}).get("value") or 0 for name in rules.COUNTS]
    f1 = Difference(0.0, 0.0, 0.0, low, None, *counts)
    return Comparison(champion, f1, Difference(0.0, 0.0, 0.0, None, high, *counts), 0)


def _wrong_decisions(own: list[Row], gated: dict[str, Row]) -> Iterator[Finding]:
    """Promotions that do not rest on passed gates and, where a person decides, on an approval.

    An approval may overrule the gates that lacked a comparison, if the version failed no other.
    """
    yes = (row for row in own if row.event == Event.APPROVED)
    approvals = {(row.hash, row.facts().get("gated")): row for row in yes}
    for row in own:
        if row.event not in (Event.PROMOTED, Event.REJECTED):
            continue
        where, base = f"ledger row {row.sequence}", gated.get(row.facts().get("gated", ""))
        if base is None:
            yield broken("rests on no gating of this version", where)
            continue
        promoted = row.event == Event.PROMOTED
        passed = all(gate["passed"] for gate in base.facts()["gates"])
        approval = approvals.get((row.facts().get("approved", ""), base.hash))
        overruled = approval.facts().get(chain.OVERRULED) if approval else None
        if (passed or bool(overruled and overruled == chain.incomparable(base))) != promoted:
            yield broken(f"{row.event} against its gates", where, not passed, passed)
        if promoted and base.facts().get("mode") == "approve" and approval is None:
            yield broken("was promoted without the approval it needs", where)
