"""`dvc push` and `dvc pull` against a real S3 server process on loopback."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import boto3
import pytest
from e2e_support import Workspace

pytestmark = pytest.mark.e2e
KEYS = {
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
    "region_name": "us-east-1",
}
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture
def s3_server(free_port: int) -> Iterator[str]:
    """The address of an S3 server with the bucket `photos`."""
    address = f"http://127.0.0.1:{free_port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(free_port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(address, timeout=1)
                    break
                except OSError:
                    assert time.monotonic() < deadline, "the S3 server did not start"
                    time.sleep(0.2)
            boto3.client("s3", endpoint_url=address, **KEYS).create_bucket(Bucket="photos")
            yield address
        finally:
            process.kill()


def test_data_survives_through_s3(workspace: Workspace, s3_server: str) -> None:
    before = workspace.hashes("data/demo")
    workspace.run("dvc", "remote", "add", "store", "s3://photos/dvc")
    workspace.run("dvc", "remote", "modify", "store", "endpointurl", s3_server)
    workspace.run("dvc", "push", "--remote", "store", **ENVIRONMENT)
    for folder in ("data/demo", ".dvc/cache", ".state/dvc-remote"):
        shutil.rmtree(workspace.root / folder, ignore_errors=True)
    workspace.run("dvc", "pull", "--remote", "store", "data/demo", **ENVIRONMENT)
    assert workspace.hashes("data/demo") == before
    client = boto3.client("s3", endpoint_url=s3_server, **KEYS)
    assert client.list_objects_v2(Bucket="photos")["KeyCount"] >= len(set(before.values()))
