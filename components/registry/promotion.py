"""Gating and promoting: the ledger decides, the alias follows.

Every step appends to the ledger first; then MLflow (alias, ledger head) follows it, so a
crash in between is completed by the next command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.core.errors import CheckError
from components.core.params import Promotion
from components.registry import chain, gates
from components.registry.alias import sync_alias
from components.registry.chain import Event, Row
from components.registry.gates import GateEvidence
from components.registry.ledger import Entry
from components.registry.verdicts import Gate
from components.registry.versions import Registry, registration


@dataclass(frozen=True)
class Decision:
    """The outcome of gating a version.

    Attributes:
        gates: every verdict.
        champion: the champion afterwards.
        replaced: the champion it took over from; None where it did not, or there was none.
        recorded: False where the same evidence had been judged before and nothing was added.
        sentence: the outcome for people.
        awaiting: whether it passed every gate and a person has to decide.
    """

    model: str
    version: int
    gates: list[Gate]
    champion: int | None
    replaced: int | None
    recorded: bool
    sentence: str
    awaiting: bool = False

    @property
    def promoted(self) -> bool:
        """Whether the version is champion."""
        return self.champion == self.version


def decide_and_promote(
    registry: Registry, version: int, evidence: GateEvidence, rules: Promotion, *, actor: str
) -> Decision:
    """Judge a version and, if every gate passes, make it champion or leave that to a person.

    The same evidence under the same gates is judged once: a second call adds nothing, unless the
    first one was interrupted before its verdict, which is then completed.

    Raises:
        CheckError: the champion changed while this was decided, or the ledger is damaged.
        InputError: unknown version, unreachable store.
    """
    rows = registry.rows()
    born = registration(rows, version)
    current = chain.champion(rows)
    if evidence.champion != current:
        raise CheckError(
            f"version {version} was judged against champion {evidence.champion or 'none'}, "
            f"but the champion is now {current or 'none'}",
            hint="run the command again",
        )
    verdicts = gates.judge(version, evidence, rules)
    facts = {
        "champion": current,
        "gates": [gate.row() for gate in verdicts],
        "mode": rules.mode,
        "thresholds": rules.gates.model_dump(mode="json"),
        "hashes": dict(evidence.hashes),
        "record_sha256": born.facts()["record_sha256"],
    }
    gated, verdict = chain.last_gating(rows, version)
    fresh = gated is None or not _same(gated.facts(), facts, version)
    if gated is None or fresh:
        entry = Entry(registry.model, Event.GATED, version, actor, _summary(verdicts), facts)
        gated, verdict = registry.ledger.append(entry), None
    replaced: int | None = None
    dismissed = chain.dismissed(rows, version)
    if dismissed:
        # A person's decision outlasts any schedule; only a person takes it back.
        champion = sync_alias(registry)
        sentence = (
            f"Version {version} was not promoted: {dismissed.actor} rolled it back "
            f"({dismissed.reason}); version {champion} stays champion. `iml model rollback "
            f"{registry.model}/{version}` takes that back."
        )
        return Decision(registry.model, version, verdicts, champion, None, fresh, sentence)
    if verdict is None and _left_to_people(rules, current, version, verdicts):
        sync_alias(registry)
        sentence = (
            f"Version {version} passed every gate and awaits approval: `iml model approve "
            f"{registry.model}/{version} --by NAME --reason WHY`."
        )
        return Decision(
            registry.model, version, verdicts, current, None, fresh, sentence, awaiting=True
        )
    if verdict is None and not (version == current and gates.passed(verdicts)):
        _conclude(registry, gated, verdicts, current, actor)
        fresh = True
        replaced = current if gates.passed(verdicts) else None
    champion = sync_alias(registry)
    return Decision(
        registry.model,
        version,
        verdicts,
        champion,
        replaced,
        fresh,
        _sentence(version, champion, verdicts),
    )


def _left_to_people(
    rules: Promotion, current: int | None, version: int, verdicts: Sequence[Gate]
) -> bool:
    return rules.mode == "approve" and version != current and gates.passed(verdicts)


def _same(before: Mapping[str, Any], now: Mapping[str, Any], version: int) -> bool:
    """Whether two gatings of a version had the same ground.

    A version that has become champion is no longer compared with its predecessor, and no two
    measurements of time agree: that alone is no new ground.
    """
    is_champion = now["champion"] == version
    return _ground(before, is_champion) == _ground(now, is_champion)


def _ground(facts: Mapping[str, Any], is_champion: bool) -> dict[str, Any]:
    rows = [
        {"name": gate["name"], "passed": gate["passed"]} if gate["name"] == gates.LATENCY else gate
        for gate in facts["gates"]
        if not (is_champion and gate["name"] in gates.COMPARISONS)
    ]
    champion = None if is_champion else facts["champion"]
    return {**facts, "champion": champion, "gates": rows}


def _conclude(
    registry: Registry, gated: Row, verdicts: Sequence[Gate], current: int | None, actor: str
) -> Row:
    """Append the verdict that follows a gating."""
    event = Event.PROMOTED if gates.passed(verdicts) else Event.REJECTED
    evidence = {"gated": gated.hash, "record_sha256": gated.facts()["record_sha256"]}
    reason = _summary(verdicts)
    return registry.ledger.append(
        Entry(gated.model, event, gated.version, actor, reason, evidence, current)
    )


def _summary(verdicts: Sequence[Gate]) -> str:
    failed = [f"{gate.name}: {gate.reason}" for gate in verdicts if not gate.passed]
    return "; ".join(failed) or f"all {len(verdicts)} gates passed"


def _sentence(version: int, champion: int | None, verdicts: Sequence[Gate]) -> str:
    if champion == version and gates.passed(verdicts):
        return f"Version {version} is champion."
    if champion == version:
        return f"Version {version} no longer passes ({_summary(verdicts)}) but stays champion."
    reason = _summary(verdicts)
    if gates.passed(verdicts):
        reason = "it had been promoted on this evidence and was replaced since"
    keeps = f"version {champion} stays champion" if champion else "there is no champion"
    return f"Version {version} was not promoted: {reason}; {keeps}."
