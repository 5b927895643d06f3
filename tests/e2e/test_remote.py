"""`dvc push` and `dvc pull` against a real S3 server process on loopback."""

from __future__ import annotations

import shutil

import boto3
import pytest
from e2e_support import Workspace

pytestmark = pytest.mark.e2e


def test_data_survives_through_s3(workspace: Workspace, s3: str) -> None:
    bucket = boto3.resource("s3").Bucket("photos")
    bucket.create()
    before = workspace.hashes("data/demo")
    workspace.run("dvc", "remote", "add", "store", "s3://photos/dvc")
    workspace.run("dvc", "remote", "modify", "store", "endpointurl", s3)
    workspace.run("dvc", "push", "--remote", "store")
    for folder in ("data/demo", ".dvc/cache", ".state/dvc-remote"):
        shutil.rmtree(workspace.root / folder, ignore_errors=True)
    workspace.run("dvc", "pull", "--remote", "store", "data/demo")
    assert workspace.hashes("data/demo") == before
    assert len(list(bucket.objects.all())) >= len(set(before.values()))
