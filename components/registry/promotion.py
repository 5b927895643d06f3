"""A version's way to champion: registered, gated, approved where a person decides, rolled back to.

Every step appends to the ledger first; then MLflow (alias, ledger head) follows it, so a crash in
between is completed by the next command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core import params as parameters
from components.core.errors import CheckError, InputError
from components.core.files import read_json
from components.core.params import Promotion
from components.core.paths import TOMBSTONES
from components.registry import attestations, chain, gates, layout, signing, tombstones
from components.registry.alias import sync_alias
from components.registry.chain import Event, Row
from components.registry.downloads import verified_copy, verify_download
from components.registry.gates import Gate, GateEvidence
from components.registry.layout import (
    LOCK_HASH,
    PROVENANCE_HASH,
    RECORD_HASH,
    SIGNATURE_HASH,
    SIGNER,
    TEST_RESULT,
    TWINS,
)
from components.registry.ledger import Entry
from components.registry.tracking import Version
from components.registry.versions import Registry, registration

if TYPE_CHECKING:  # it imports torch, which reading the registry does not need
    from components.registry.package import Package


def register(
    registry: Registry, package: Package, *, clean: bool, actor: str, run_id: str | None = None
) -> int:
    """The version of a package: the one the ledger has, an interrupted one completed, or a new one.

    Its files go into MLflow, signed, into the run that trained it or a new one; they are fetched
    back and checked before the ledger names the version.

    A version with the same student and evidence is the package's version, whatever dvc.lock says;
    the ledger then confirms it. But one that was made in a workspace with uncommitted changes is
    registered again from a clean one, because its lineage record cannot be replayed, and so is one
    that MLflow has lost; the new row names it as twin.
    """
    rows, held = registry.rows(), registry.held()
    twins = _twins(registry, rows, package)
    for row in twins:
        if row.version in held and (row.facts()["clean"] or not clean):
            _confirm(registry, rows, row, package, clean=clean, actor=actor)
            return row.version
    version = _interrupted(registry, package, {row.version for row in rows})
    if version is None:
        version = registry.store.register(registry.model, package, run_id)
        verify_download(registry, version.version, _registered_facts(version, package))
    evidence = {
        **_registered_facts(version, package),
        "clean": clean,
        "evidence": package.evidence,
        TWINS: sorted(row.version for row in twins),
    }
    reason = "trained by the pipeline"
    registry.ledger.append(
        Entry(registry.model, Event.REGISTERED, version.version, actor, reason, evidence)
    )
    sync_alias(registry)
    return version.version


def _twins(registry: Registry, rows: Sequence[Row], package: Package) -> list[Row]:
    """Registrations of the same student with the same evidence.

    Those from a clean workspace first, then the champion's, then the newest.
    """
    champion = chain.champion(rows)
    twins = [
        row
        for row in rows
        if row.event == Event.REGISTERED and _same_student(registry, row, package)
    ]
    return sorted(twins, key=lambda r: (not r.facts()["clean"], r.version != champion, -r.version))


def _same_student(registry: Registry, row: Row, package: Package) -> bool:
    facts = row.facts()
    if facts["identity"] == package.identity:
        return True
    if facts["files"] != package.hashes():
        return False
    with suppress(CheckError, KeyError, TypeError):  # not whole in MLflow, or of another shape
        return _evidence(registry, row) == package.evidence
    return False


def _evidence(registry: Registry, row: Row) -> dict[str, str | None]:
    """Hashes of what was measured of a version; older rows do not have them, its record does."""
    facts = row.facts()
    if "evidence" in facts:
        return dict(facts["evidence"])
    return layout.measured(read_json(verified_copy(registry, row) / layout.RECORD))


def _confirm(
    registry: Registry,
    rows: Sequence[Row],
    row: Row,
    package: Package,
    *,
    clean: bool,
    actor: str,
) -> None:
    """Record that a version was made again, once for each dvc.lock that made it."""
    lock = package.record["dvc_lock"]["sha256"]
    if row.facts()["identity"] == package.identity or lock in chain.confirmations(
        rows, row.version
    ):
        return
    facts = {
        "commit": package.record["git"]["commit"],
        "clean": clean,
        LOCK_HASH: lock,
        RECORD_HASH: package.record_sha256,
    }
    reason = "the same student with the same evidence was made again"
    registry.ledger.append(
        Entry(registry.model, Event.CONFIRMED, row.version, actor, reason, facts)
    )
    sync_alias(registry)


def _interrupted(registry: Registry, package: Package, known: set[int]) -> Version | None:
    """A whole version of this package that MLflow has and the ledger does not."""
    found = registry.store.find(registry.model, package.identity, package.record_sha256)
    for version in reversed(found):
        if version.version not in known:
            with suppress(CheckError):
                verify_download(registry, version.version, _registered_facts(version, package))
                return version
    return None


def _registered_facts(version: Version, package: Package) -> dict[str, Any]:
    """What the ledger records of a version; the signature's facts are those of its tags."""
    return {
        "identity": package.identity,
        "run_id": version.run_id,
        RECORD_HASH: package.record_sha256,
        SIGNATURE_HASH: version.tags.get(SIGNATURE_HASH),
        SIGNER: version.tags.get(SIGNER),
        PROVENANCE_HASH: version.tags.get(PROVENANCE_HASH),
        "files": package.hashes(),
        "tags": dict(package.tags),
    }


@dataclass(frozen=True)
class Decision:
    """The outcome of gating a version.

    Attributes:
        gates: every verdict.
        champion: the champion afterwards.
        replaced: the champion it took over from; None where it did not, or there was none.
        recorded: False where the same evidence had been gated before and nothing was added.
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
    """Gate a version and, if every gate passes, make it champion or leave that to a person.

    The same evidence under the same gates is recorded once: a second call adds nothing, unless the
    first one was interrupted before its verdict, which is then completed.

    Raises:
        CheckError: the champion changed while this was decided, or the ledger is damaged.
        InputError: unknown version, unreachable store.
    """
    rows = registry.rows()
    registered = registration(rows, version).facts()
    current = chain.champion(rows)
    chain.check_champion(f"version {version}", evidence.champion, current, "run the command again")
    verdicts = gates.judge(version, evidence, rules)
    passed = gates.passed(verdicts)
    facts = {
        "champion": current,
        "gates": [gate.row() for gate in verdicts],
        "mode": rules.mode,
        "thresholds": rules.gates.model_dump(mode="json"),
        "hashes": dict(evidence.hashes),
        RECORD_HASH: registered[RECORD_HASH],
    }
    gated, verdict = chain.last_gating(rows, version)
    recorded = gated is None or not _same_grounds(gated.facts(), facts, version)
    if gated is None or recorded:
        signing.check_key(lambda: any(row.signing_key for row in rows))
        facts[TEST_RESULT] = attestations.sealed(attestations.test_result(registered, facts))
        entry = Entry(registry.model, Event.GATED, version, actor, _summary(verdicts), facts)
        gated, verdict = registry.ledger.append(entry), None
    # A person's decision outlasts any schedule; only a person takes it back.
    dismissed = chain.dismissed(rows, version)
    settled = bool(dismissed or verdict) or (passed and version == current)
    awaiting = passed and not settled and rules.mode == "approve"
    concludes = not settled and not awaiting
    if concludes:
        _conclude(registry, gated, verdicts, current, actor)
    champion = sync_alias(registry)
    return Decision(
        model=registry.model,
        version=version,
        gates=verdicts,
        champion=champion,
        replaced=current if concludes and passed else None,
        recorded=recorded or concludes,
        sentence=_sentence(gated, champion, verdicts, dismissed, awaiting),
        awaiting=awaiting,
    )


def _same_grounds(before: Mapping[str, Any], now: Mapping[str, Any], version: int) -> bool:
    """Whether two gatings of a version had the same grounds.

    A version that has become champion is no longer compared with its predecessor, and no two
    measurements of time agree: neither alone makes new grounds, nor do other words or gates that
    are switched off.
    """
    is_champion = now["champion"] == version
    return _grounds(before, is_champion) == _grounds(now, is_champion)


def _grounds(facts: Mapping[str, Any], is_champion: bool) -> dict[str, Any]:
    unsteady = {gates.LATENCY, *(gates.COUNTS if is_champion else ())}
    rows = [
        (gate["name"], gate["passed"], None if gate["name"] in unsteady else gate["value"])
        for gate in facts["gates"]
        if not (is_champion and gate["name"] in gates.COMPARISONS)
    ]
    champion = None if is_champion else facts["champion"]
    asked = _asked(facts["thresholds"])
    kept = {name: value for name, value in facts.items() if name != TEST_RESULT}
    return {**kept, "champion": champion, "gates": rows, "thresholds": asked}


def _asked(thresholds: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not asked for: a gate that is switched off, or was not known yet."""
    return {name: value for name, value in thresholds.items() if value is not None}


def _conclude(
    registry: Registry, gated: Row, verdicts: Sequence[Gate], current: int | None, actor: str
) -> None:
    """Append the verdict that follows a gating."""
    event = Event.PROMOTED if gates.passed(verdicts) else Event.REJECTED
    evidence = {"gated": gated.hash, RECORD_HASH: gated.facts()[RECORD_HASH]}
    reason = _summary(verdicts)
    registry.ledger.append(
        Entry(gated.model, event, gated.version, actor, reason, evidence, current)
    )


def _summary(verdicts: Sequence[Gate]) -> str:
    failed: dict[str, list[str]] = {}
    for gate in verdicts:
        if not gate.passed:
            failed.setdefault(gate.reason, []).append(gate.name)
    texts = [f"{', '.join(names)}: {reason}" for reason, names in failed.items()]
    return "; ".join(texts) or f"all {len(verdicts)} gates passed"


def _sentence(
    gated: Row,
    champion: int | None,
    verdicts: Sequence[Gate],
    dismissed: Row | None,
    awaiting: bool,
) -> str:
    name, what = f"{gated.model}/{gated.version}", f"Version {gated.version}"
    passed = gates.passed(verdicts)
    if dismissed:
        return (
            f"{what} was not promoted: {dismissed.actor} rolled it back ({dismissed.reason}); "
            f"version {champion} stays champion. `iml model rollback {name}` takes that back."
        )
    if awaiting:
        command = f"iml model approve {name} --by NAME --reason WHY"
        return f"{what} passed every gate and awaits approval: `{command}`."
    if champion == gated.version:
        return (
            f"{what} is champion."
            if passed
            else f"{what} no longer passes ({_summary(verdicts)}) but stays champion."
        )
    replaced = "it had been promoted on this evidence and has been replaced since"
    keeps = f"version {champion} stays champion" if champion else "there is no champion"
    why = replaced if passed else _summary(verdicts)
    sentence = f"{what} was not promoted: {why}; {keeps}."
    return f"{sentence} {chain.how_to_overrule(gated)}" if chain.incomparable(gated) else sentence


def refuse_erased(model: str, version: int) -> None:
    """Raise CheckError for a version trained on a photo erased since, if params.yaml asks for it.

    Outside a project no rule does.
    """
    if not Path("params.yaml").is_file() or not parameters.load().erasure.retire:
        return
    for stone in tombstones.read(TOMBSTONES).valid.values():
        if stone.trained(f"{model}/{version}"):
            raise CheckError(
                f"it was trained on a photo that was {stone.line()}",
                where=f"{model}/{version}",
                hint="erasure.retire forbids it; `iml run` makes a version without the photo",
            )


def approve(
    registry: Registry,
    version: int,
    rules: Promotion,
    *,
    actor: str,
    reason: str,
    overrule: bool = False,
) -> Row:
    """Record a person's approval and promote; gives the `promoted` row.

    With `overrule` also a version that failed only because the champion could not be compared.
    Nothing may have changed since the version was gated, today's rules included. Killed in
    between, the same command completes it.

    Raises:
        InputError: an unknown version, one that is not awaiting approval, or an empty reason.
        CheckError: files, gates or champion are no longer those of its gating, or the rules ask
            for another account than the one that trained.
    """
    rows = registry.rows()
    trained = registration(rows, version)
    registered, current = trained.facts(), chain.champion(rows)
    gated = _awaiting(registry.model, rows, version, overrule)
    if rules.four_eyes and actor == trained.actor:
        raise CheckError(
            f"{actor} trained version {version} of {registry.model}",
            where="promotion.four_eyes",
            hint="another account must approve it",
        )
    _check_unchanged(gated, current, rules)
    refuse_erased(registry.model, version)
    verify_download(registry, version, registered)
    evidence = {"gated": gated.hash, RECORD_HASH: registered[RECORD_HASH]}
    overruled = chain.incomparable(gated)
    entry = Entry(
        registry.model,
        Event.APPROVED,
        version,
        actor,
        reason,
        {**evidence, chain.OVERRULED: overruled} if overruled else evidence,
        expected_sequence=rows[-1].sequence,
    )
    # One that is there already was interrupted before the promotion.
    approved = chain.approval(rows, gated) or registry.ledger.append(entry)
    evidence["approved"] = approved.hash
    reason = f"approved: {approved.reason}"
    promoted = registry.ledger.append(
        Entry(registry.model, Event.PROMOTED, version, approved.actor, reason, evidence, current)
    )
    sync_alias(registry)
    return promoted


def _awaiting(model: str, rows: Sequence[Row], version: int, overrule: bool) -> Row:
    """The gating that waits for approval; raises for a version that does not wait."""
    gated, verdict = chain.last_gating(rows, version)
    if gated is not None and chain.awaits_approval(rows, version):
        return gated
    name = f"version {version} of {model}"
    if chain.champion(rows) == version:
        raise InputError(f"{name} is already the champion")
    if gated is not None and verdict is not None and verdict.event == Event.REJECTED:
        alone = chain.incomparable(gated)
        if alone and overrule:
            return gated
        hint = chain.how_to_overrule(gated) if alone else "see `iml model show`"
        raise CheckError(f"{name} was rejected: {verdict.reason}", hint=hint)
    if verdict is not None:
        raise InputError(
            f"{name} had been promoted and has been replaced since",
            hint="use `iml model rollback`",
        )
    raise InputError(f"{name} is not awaiting approval", hint="run `iml run` or `model promote`")


def _check_unchanged(gated: Row, current: int | None, rules: Promotion) -> None:
    """Raises CheckError when champion or gates are no longer those of a gating."""
    facts, again = gated.facts(), "run `iml run`, which applies the gates again"
    name = f"version {gated.version} of {gated.model}"
    chain.check_champion(name, facts["champion"], current, again)
    if _asked(facts["thresholds"]) != _asked(rules.gates.model_dump(mode="json")):
        raise CheckError(
            f"the gates changed since {name} was gated", where="params.yaml", hint=again
        )


def rollback(registry: Registry, version: int, *, actor: str, reason: str) -> Row:
    """Make an earlier champion champion again, after checking that it is what it was.

    A person's decision, which no schedule undoes.

    Raises:
        InputError: it was never champion, is champion now, or the reason is empty.
        CheckError: its files were changed, or the champion changed meanwhile.
    """
    rows = registry.rows()
    registered, current = registration(rows, version).facts(), chain.champion(rows)
    if version == current:
        raise InputError(f"version {version} of {registry.model} is already the champion")
    if not any(row.version == version and row.event in chain.CHAMPION_EVENTS for row in rows):
        raise InputError(
            f"version {version} of {registry.model} was never champion",
            hint="see `iml model history`",
        )
    refuse_erased(registry.model, version)
    verify_download(registry, version, registered)
    evidence = {name: registered[name] for name in (RECORD_HASH, SIGNATURE_HASH)}
    row = registry.ledger.append(
        Entry(registry.model, Event.ROLLED_BACK, version, actor, reason, evidence, current)
    )
    sync_alias(registry)
    return row
