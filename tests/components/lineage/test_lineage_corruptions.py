"""Three hundred seeded corruptions, each found and named; fifty audits of what is untouched."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import lineage_support as support
import pytest
from corruptions_base import EVIDENCE, Expected
from corruptions_history import HISTORY
from corruptions_remote import REMOTE
from corruptions_version import VERSION

from components.lineage.audit import audit
from components.lineage.collect import collect
from components.lineage.verdict import Audit, Verdict

KINDS = [*REMOTE, *VERSION, *HISTORY]
CASES, SAMPLE = 300, 10
UNTOUCHED = 50


def audited(reference: str = f"{support.MODEL}/1") -> Audit:
    with collect(reference) as evidence:
        return audit(evidence, deep=True)


def problem(expected: Expected, answer: Audit) -> str | None:
    """What is wrong with an audit of a corrupted project, or None."""
    found = [f for f in answer.findings if f.verdict != Verdict.VERIFIED]
    named = [
        f
        for f in found
        if f.link in expected.links
        and expected.named in f.line()
        and (f.verdict == Verdict.BROKEN or expected.gone)
    ]
    stray = {f.link for f in answer.of(Verdict.BROKEN)} - expected.links
    if named and not stray and answer.exit_code != 0:
        return None
    return f"{expected} {stray} {[f'{f.verdict} {f.line()}' for f in found[:6]]}"


@pytest.mark.timeout(3600)
def test_corruptions_are_found_and_named(
    project: Path,
    tmp_path: Path,
    standing: Callable[[Path], None],
    campaigns: bool,
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = range(CASES) if campaigns else sorted(random.Random(7).sample(range(CASES), SAMPLE))
    wrong, touched = [], Counter[str]()
    for number in chosen:
        kind = KINDS[number % len(KINDS)]
        root = support.copy(project, tmp_path / f"case{number}")
        standing(root)
        monkeypatch.setenv("IML_CHECKPOINTS", str(root / "checkpoints"))
        expected = kind(root, random.Random(number))
        touched[expected.evidence] += 1
        if said := problem(expected, audited()):
            wrong.append(f"{number} {kind.__name__}: {said}")
        shutil.rmtree(root)
    print("\n".join(f"{count:3} {evidence}" for evidence, count in touched.most_common()))
    record_property("corruptions", len(chosen))
    record_property("found and named", len(chosen) - len(wrong))
    assert not wrong, "\n".join(wrong)
    if campaigns:
        assert touched.keys() == set(EVIDENCE)


@pytest.mark.parametrize("version", [1, 2])
def test_an_untouched_project_is_verified(
    project: Path,
    standing: Callable[[Path], None],
    campaigns: bool,
    version: int,
    record_property: Callable[[str, object], None],
) -> None:
    standing(project)
    audits = UNTOUCHED // 2 if campaigns else 1
    record_property("audits of an untouched project", audits)
    for _ in range(audits):
        answer = audited(f"{support.MODEL}/{version}")
        assert answer.verdict == Verdict.VERIFIED, answer.sentence()
        assert answer.objects > 50
