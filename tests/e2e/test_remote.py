"""`dvc push` and `dvc pull` against a real S3 server process on loopback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import boto3
import pytest
from e2e_support import Workspace, commit_all

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


def test_a_data_set_stays_in_s3(workspace: Workspace, s3: str, tmp_path: Path) -> None:
    client, root = boto3.client("s3"), workspace.root
    client.create_bucket(Bucket="archive")
    kept = {"Status": "Enabled"}
    client.put_bucket_versioning(Bucket="archive", VersioningConfiguration=kept)
    before = workspace.hashes("data/demo")
    for path in before:
        client.upload_file(str(root / path), "archive", path.removeprefix("data/"))
    shutil.rmtree(root / "data/demo")
    (root / "data/demo.dvc").unlink()
    workspace.run("dvc", "import-url", "--version-aware", "s3://archive/demo", "data/demo")
    commit_all(workspace, "data/demo stays in S3")
    workspace.iml("run", "--commit")
    photo = next(path for path in before if "/photos/" in path)
    client.put_object(Bucket="archive", Key=photo.removeprefix("data/"), Body=b"other")
    assert "Nothing to do" in workspace.iml("run", "--commit").stdout
    workspace.iml("audit", "boxpromptiml@champion", "--deep")
    workspace.iml("replay", "boxpromptiml@champion")

    clone = Workspace(tmp_path / "clone")
    workspace.run("git", "clone", "--quiet", ".", str(clone.root))
    state = root / ".state"
    clone.run("dvc", "remote", "add", "--local", "--default", "here", str(state / "dvc-remote"))
    clone.run("dvc", "pull")
    assert clone.hashes("data/demo") == before
    again = json.loads(clone.iml("run", "--json", IML_STATE=str(state)).stdout)
    assert not any(stage["ran"] for stage in again["stages"])
    assert not again["registered"]
    (clone.root / photo).unlink()
    refusal = clone.iml("run", code=1, IML_STATE=str(state)).stderr
    assert "`dvc update data/demo.dvc` once s3://archive/demo has the same" in refusal
