"""Checks of the decisions on a version: each gate of the ledger judged again, by its own row.

A gate is judged by the thresholds of its row and the numbers of the version's evidence. Gates that
came later do not count, wording does not either, and a gate that this program does not know is
remarked on. A gate whose rule changes therefore gets a new name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.core.errors import CheckError
from components.core.files import sha256_bytes
from components.lineage.checks import attestations
from components.lineage.checks.data import refused
from components.lineage.evidence import Evidence, parsed
from components.lineage.verdict import (
    Finding,
    Pair,
    broken,
    close,
    compared,
    missing,
    remark,
    verified,
)
from components.registry import chain, layout
from components.registry import gates as rules
from components.registry.chain import Event, Row
from components.registry.package import FILES

_Gate = Mapping[str, Any]  # a verdict as the ledger has it
_Sides = tuple[bool, object, object]  # passed, value, threshold


@dataclass(frozen=True)
class _Case:
    """One `gated` row and the evidence that it was judged on."""

    evidence: Evidence
    facts: Mapping[str, Any]
    metrics: Mapping[str, Any]
    parity: Mapping[str, Any]

    @property
    def thresholds(self) -> Mapping[str, Any]:
        """What the row asked for."""
        return self.facts["thresholds"]

    def megabytes(self) -> float | None:
        """Size of the student's weights."""
        student = self.evidence.files / layout.ARTIFACTS / FILES[0]
        return student.stat().st_size / 1e6 if student.is_file() else None

    def uncontested(self) -> bool:
        """Whether there was no champion, or one with the same weights, as this version itself."""
        rows = (row for row in self.evidence.rows if row.event == Event.REGISTERED)
        weights = {row.version: row.facts()["files"][FILES[0]] for row in rows}
        champion = self.facts["champion"]
        return champion is None or weights.get(champion) == weights[self.evidence.version]


def gates(evidence: Evidence) -> Iterator[Finding]:
    """Every `gated` row of the version, and the decisions that rest on them."""
    gated = [row for row in evidence.own_rows if row.event == Event.GATED]
    if not gated:
        yield missing("the version was never gated", evidence.name)
        return
    for row in gated:
        yield from _gating(evidence, row)
        yield from attestations.test_result(evidence, row)
    wrong = list(_wrong_decisions(evidence.own_rows, {row.hash: row for row in gated}))
    yield from wrong or [verified("every decision follows from its gates")]


def _gating(evidence: Evidence, row: Row) -> Iterator[Finding]:
    """One gating: it used this version's evidence, and its gates return the same verdicts again."""
    facts, record, where = row.facts(), evidence.record, f"ledger row {row.sequence}"
    try:
        parity = evidence.output("parity")
    except CheckError as error:
        yield refused(error)
        return
    evaluation = record["evaluation"][evidence.gate_dataset]
    expected = {
        "validation": record["validation"]["sha256"],
        "evaluation": evaluation["sha256"],
        "parity": sha256_bytes(parity),
    }
    pairs: list[Pair] = [
        (f"hash of {name}", expected[name], digest)
        for name, digest in facts["hashes"].items()
        if name in expected
    ]
    pairs.append(("record", evidence.facts["record_sha256"], facts["record_sha256"]))
    yield from compared("the gates used this version's evidence", where, pairs)
    yield from _verdicts(_Case(evidence, facts, evaluation["result"], parsed(parity) or {}), where)


def _verdicts(case: _Case, where: str) -> Iterator[Finding]:
    """Every gate that the row has, judged again as far as this program knows it."""
    pairs: list[Pair] = []
    for gate in case.facts["gates"]:
        name = gate["name"]
        if name not in _JUDGES:
            yield remark(f"gate {name}: not judged again, unknown to this program", where)
        elif (again := _JUDGES[name](case, gate)) is None:
            what = "this program does not find what it measured, or why it passed"
            yield missing(what, f"{where} {name}")
        else:
            pairs.append((name, (gate["passed"], gate["value"], gate["threshold"]), again))
    yield from compared("the gates return the same verdicts again", where, pairs)


def _limit(case: _Case, gate: _Gate, measured: float | None, threshold: Any) -> _Sides | None:
    """A gate on a number: `min_` is the least that passes, of any other it is the most."""
    name, value = gate["name"], gate["value"]
    if measured is None:
        return (False, None, threshold) if value is None else None
    if rules.finite(value) is not None and close(value, measured):
        measured = value
    passed = measured >= threshold if name.startswith("min_") else measured <= threshold
    return passed, measured, threshold


def _measured(find: Callable[[_Case], float | None]) -> Callable[[_Case, _Gate], _Sides | None]:
    """A gate whose number the evidence holds, too."""
    return lambda case, gate: _limit(case, gate, find(case), case.thresholds[gate["name"]])


def _metric(name: str) -> Callable[[_Case, _Gate], _Sides | None]:
    return _measured(lambda case: rules.metric(case.metrics, name))


def _latency(case: _Case, gate: _Gate) -> _Sides | None:
    """Of the machine that measured it, so the row alone has it."""
    return _limit(case, gate, rules.finite(gate["value"]), case.thresholds[gate["name"]])


def _count(place: int) -> Callable[[_Case, _Gate], _Sides | None]:
    """The least number of photos (0) or source groups (1) behind the figures.

    The evaluation's numbers are its most: those of the comparison the row alone has.
    """

    def judge(case: _Case, gate: _Gate) -> _Sides | None:
        value, threshold = rules.finite(gate["value"]), case.thresholds[gate["name"]]
        found = [rules.finite(pair[place]) for pair in rules.behind(case.metrics).values()]
        known = [number for number in found if number is not None]
        if len(known) < len(found):
            return _limit(case, gate, None, threshold)
        return _limit(case, gate, min(known if value is None else [*known, value]), threshold)

    return judge


def _parity(case: _Case, gate: _Gate) -> _Sides | None:
    again = rules.parity(case.parity)
    return _limit(case, gate, rules.finite(again.value), again.threshold)


def _contest(case: _Case, gate: _Gate) -> _Sides | None:
    """A comparison with the champion; the photos behind its bound were those of that day."""
    name, value = gate["name"], rules.finite(gate["value"])
    margin = {
        rules.F1_GATE: -case.thresholds.get("champion_margin", math.nan),
        rules.ALARM_GATE: case.thresholds.get("champion_alarm_margin", math.nan),
        rules.BETTER_GATE: 0.0,
    }[name]
    if value is None:  # it passes only where there was nothing to compare with
        passed = gate["passed"]
        return (passed, gate["value"], margin) if not passed or case.uncontested() else None
    return value < margin if name == rules.ALARM_GATE else value > margin, value, margin


def _answer(find: Callable[[_Case], bool | None]) -> Callable[[_Case, _Gate], _Sides | None]:
    """A gate that asks yes or no: compared by that alone, and not where None is found."""

    def judge(case: _Case, gate: _Gate) -> _Sides:
        found = find(case)
        passed = gate["passed"] if found is None else found
        return passed, gate["value"], gate["threshold"]

    return judge


def _licensed(case: _Case) -> bool | None:
    """False where a data set's licence is not allowed; those of weights each program knows."""
    allowed = case.thresholds["allowed_licences"] or []
    named = {data["licence"] for data in case.evidence.record["datasets"].values()}
    return None if named <= set(allowed) else False


_JUDGES: dict[str, Callable[[_Case, _Gate], _Sides | None]] = {
    "data_validation": _answer(lambda case: case.evidence.record["validation"]["result"]["passed"]),
    "min_f1": _metric("f1"),
    "min_image_auc": _metric("image_auc"),
    "max_false_alarm_area": _metric("false_alarm_area"),
    "max_ece": _metric("ece"),
    "min_robustness": _measured(lambda case: rules.robustness(case.metrics)),
    "max_megabytes": _measured(_Case.megabytes),
    "min_photos": _count(0),
    "min_groups": _count(1),
    rules.LATENCY: _latency,
    "onnx_parity": _parity,
    # The audit itself walks the record and checks the signature.
    "lineage_complete": _answer(lambda case: None),
    "signature_valid": _answer(lambda case: None if case.evidence.facts[layout.SIGNER] else False),
    "licences_allowed": _answer(_licensed),
    # Whether it was clean that day the row alone says.
    "workspace_clean": _answer(lambda case: None),
    # Which photos had been erased that day the row alone says.
    "no_erased_photos": _answer(lambda case: None),
    **dict.fromkeys(rules.COMPARISONS, _contest),
}


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
        failed = any(not gate["passed"] for gate in base.facts()["gates"])
        approval = approvals.get((row.facts().get("approved", ""), base.hash))
        overruled = approval.facts().get(chain.OVERRULED) if approval else None
        passed = not failed or bool(overruled and overruled == chain.incomparable(base))
        if passed != promoted:
            yield broken(f"{row.event} against its gates", where, not passed, passed)
        if promoted and base.facts().get("mode") == "approve" and approval is None:
            yield broken("was promoted without the approval it needs", where)
