"""Audit, export and replay in a clone without the older commits: it is named, not a loss."""

from __future__ import annotations

from pathlib import Path

import lineage_support as support
import pytest

from components.core.errors import EvidenceError
from components.lineage import bundle, replay
from components.lineage.audit import check
from components.lineage.collect import collect
from components.lineage.verdict import Verdict

UNSHALLOW = "git fetch --unshallow"


@pytest.fixture
def shallow(copied: Path, tmp_path: Path) -> Path:
    """The project as a shallow clone whose one commit is younger than its versions."""
    support.commit(copied, "later")
    (copied / ".git").rename(tmp_path / "origin.git")
    origin = f"file://{tmp_path}/origin.git"
    support.run(tmp_path, "git", "clone", "--quiet", "--depth", "1", origin, "clone")
    (tmp_path / "clone/.git").rename(copied / ".git")
    return copied


def test_a_commit_that_a_shallow_clone_lacks(shallow: Path, tmp_path: Path) -> None:
    with collect(f"{support.MODEL}/1") as evidence:
        (found,) = check("commit", evidence)
        assert found.verdict == Verdict.UNVERIFIABLE
        assert UNSHALLOW in found.what
        with pytest.raises(EvidenceError, match=UNSHALLOW):
            replay.prepare(evidence, tmp_path / "again")
        with pytest.raises(EvidenceError, match=UNSHALLOW):
            bundle.export(evidence, tmp_path / "out.tar", photos=False)


def test_a_history_that_a_shallow_clone_cuts_off(shallow: Path) -> None:
    with collect(f"{support.MODEL}/1") as evidence:
        tag = f"model/{support.MODEL}/v1"
        # Its commit comes alone, and its tag stands at a later one.
        support.run(shallow, "git", "fetch", "--quiet", "--depth", "1", "origin", tag)
        support.run(shallow, "git", "tag", "--force", tag, "HEAD")
        found = check("commit", evidence)
    assert {finding.verdict for finding in found} == {Verdict.UNVERIFIABLE}
    assert [UNSHALLOW in finding.what for finding in found] == [True, True]
