"""Two hundred seeded corruptions, each found and named; fifty untouched audits, no false alarm."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import lineage_support as support
import pytest
from corruptions import KINDS

from components.lineage.audit import audit
from components.lineage.gather import gather
from components.lineage.verdict import Audit, Verdict

CASES, SAMPLE = 200, 10
UNTOUCHED = 50


def audited(reference: str = f"{support.MODEL}/1") -> Audit:
    with gather(reference) as case:
        return audit(case, deep=True)


def test_corruptions_are_found_and_named(
    project: Path, tmp_path: Path, standing: Callable[[Path], None], campaigns: bool
) -> None:
    chosen = range(CASES) if campaigns else sorted(random.Random(7).sample(range(CASES), SAMPLE))
    wrong = []
    for number in chosen:
        kind = KINDS[number % len(KINDS)]
        root = support.copy(project, tmp_path / f"case{number}")
        standing(root)
        expected = kind(root, random.Random(number))
        answer = audited()
        found = [f for f in answer.findings if f.verdict != Verdict.VERIFIED]
        named = [f for f in found if f.link in expected.links and expected.named in f.line()]
        stray = {f.link for f in answer.of(Verdict.BROKEN)} - expected.links
        if not named or stray or answer.exit_code == 0:
            lines = [f"{f.verdict} {f.line()}" for f in found[:6]]
            wrong.append((number, kind.__name__, expected, stray, lines))
        shutil.rmtree(root)
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("version", [1, 2])
def test_an_untouched_project_is_verified(
    project: Path, standing: Callable[[Path], None], campaigns: bool, version: int
) -> None:
    standing(project)
    for _ in range(UNTOUCHED // 2 if campaigns else 1):
        answer = audited(f"{support.MODEL}/{version}")
        assert answer.verdict == Verdict.VERIFIED, answer.sentence()
        assert answer.objects > 50
