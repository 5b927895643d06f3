"""A deep audit of a remote on a real S3 server process."""

from __future__ import annotations

from pathlib import Path

import lineage_support as support
import pytest

from components.lineage.audit import audit
from components.lineage.collect import collect
from components.lineage.verdict import Verdict


def test_a_remote_on_s3(copied: Path, s3: str, campaigns: bool) -> None:
    if not campaigns:
        pytest.skip("a server process and a push: with --campaigns")
    client = support.on_s3(copied, s3)
    with collect(f"{support.MODEL}/1") as evidence:
        assert evidence.objects is not None
        assert not evidence.objects.local
        answer = audit(evidence, deep=True)
        photo = evidence.listing("data/made", evidence.inputs()["data/made"])["photos/Au/Au3.png"]
    assert answer.verdict == Verdict.VERIFIED, answer.sentence()
    assert answer.objects > 50
    client.put_object(Bucket="audit", Key=f"dvc/files/md5/{photo[:2]}/{photo[2:]}", Body=b"other")
    with collect(f"{support.MODEL}/1") as evidence:
        answer = audit(evidence, deep=True)
    assert [f.link for f in answer.of(Verdict.BROKEN)] == ["data"]
    assert photo in answer.of(Verdict.BROKEN)[0].what
