"""Data sets that stay in S3, against a real S3 server process: nothing but the hashes is kept."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from boto3.s3.transfer import TransferConfig

from components import workspace
from components.core.errors import EvidenceError, InputError, UnavailableError
from components.workspace import imports
from components.workspace.remote import MissingError, Objects

NAMES = [f"photos/p {number:02d}+ü.jpg" for number in range(45)]  # three pages of the server


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def dvc(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *words, "--quiet"], check=True)


def import_again(*words: str) -> None:
    shutil.rmtree("data/street", ignore_errors=True)
    Path("data/street.dvc").unlink()
    dvc("import-url", "--version-aware", *words, "data/street")


@dataclass(frozen=True)
class Bucket:
    """A prefix of its own in the bucket `photos`, which keeps versions."""

    client: Any
    prefix: str

    @property
    def url(self) -> str:
        return f"s3://photos/{self.prefix}"

    def put(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket="photos", Key=f"{self.prefix}/{name}", Body=data)

    def delete(self, name: str, **version: str) -> None:
        self.client.delete_object(Bucket="photos", Key=f"{self.prefix}/{name}", **version)


@pytest.fixture
def bucket(s3: str, tmp_path: Path) -> Bucket:
    """With a few small photos."""
    client = boto3.client("s3")
    client.create_bucket(Bucket="photos")
    kept = {"Status": "Enabled"}
    client.put_bucket_versioning(Bucket="photos", VersioningConfiguration=kept)
    made = Bucket(client, f"sets{tmp_path}")
    for name in NAMES:
        made.put(name, name.encode())
    return made


@pytest.fixture
def root(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with the data set `street` imported and pushed; we stand in it."""
    folder = tmp_path / "workspace"
    (folder / "data").mkdir(parents=True)
    monkeypatch.chdir(folder)
    subprocess.run(["git", "init", "-q"], check=True)
    dvc("init")
    Path(".dvc/config").write_text(
        "[core]\n    remote = folder\n['remote \"folder\"']\n    url = ../../remote\n"
    )
    Path("dvc.yaml").write_text("stages: {}\n")
    dvc("import-url", "--version-aware", bucket.url, "data/street")
    subprocess.run(["git", "add", "."], check=True)
    who = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    subprocess.run(["git", *who, "commit", "-qm", "data"], check=True)
    return folder


def imported() -> imports.Import:
    found = imports.of(imports.read(Path("data/street.dvc")))
    assert found
    return found


def objects() -> Objects:
    found = Objects.of_workspace()
    found.imports = lambda: [imported()]
    return found


def test_a_push_leaves_the_photos_where_they_are(root: Path, bucket: Bucket) -> None:
    large = b"large" * 2**20 + b"x"  # S3's smallest part and a byte
    parts = TransferConfig(multipart_chunksize=5 * 2**20, multipart_threshold=1)
    key = f"{bucket.prefix}/photos/large.jpg"
    bucket.client.upload_fileobj(BytesIO(large), "photos", key, Config=parts)
    dvc("update", "data/street.dvc")
    rows = imports.read(Path("data/street.dvc"))["deps"][0]["files"]
    (etag,) = (row["etag"] for row in rows if row["relpath"] == "photos/large.jpg")
    assert etag.endswith("-2")  # no MD5 of the photo
    workspace.push(["street"])
    (kept,) = [path for path in Path("../remote").rglob("*") if path.is_file()]
    assert kept.name.endswith(".dir")
    listed = {row["relpath"]: row["md5"] for row in json.loads(kept.read_bytes())}
    assert listed.keys() == {*NAMES, "photos/large.jpg"}
    assert listed["photos/large.jpg"] == md5(large)
    assert objects().read(md5(large)) == large
    store = objects()
    names = [md5(name.encode()) for name in NAMES]
    assert store.missing([*names, "0" * 32]) == ["0" * 32]
    assert [store.read(name) for name in names] == [name.encode() for name in NAMES]
    assert Objects.of_workspace().missing(names) == sorted(names)

    # What was overwritten there is read by its version.
    bucket.put(NAMES[0], b"other")
    bucket.delete(NAMES[1])  # the version stays
    store = objects()
    for name in NAMES[:2]:
        assert store.read(md5(name.encode())) == name.encode()
    assert store.missing(md5(name.encode()) for name in NAMES) == []
    assert workspace.changed(["street"]) == {}  # what is newest there is no concern of a run


def test_a_version_that_is_gone_is_named(root: Path, bucket: Bucket) -> None:
    bucket.put("photos/twin.jpg", NAMES[3].encode())
    dvc("update", "data/street.dvc")
    workspace.push(["street"])
    for path in (NAMES[3], NAMES[44]):
        bucket.delete(path, VersionId=imported().versions[path])
    store, gone, twin = objects(), md5(NAMES[44].encode()), md5(NAMES[3].encode())
    # Of two photos with the same bytes, both versions count.
    assert store.missing(md5(name.encode()) for name in NAMES) == sorted([gone, twin])
    assert store.place(gone) == imported().named(NAMES[44])
    assert "photos/twin.jpg" in store.place(twin)
    assert store.read(twin) == NAMES[3].encode()
    with pytest.raises(MissingError, match=r"photos/p 44.* version "):
        store.read(gone)
    shutil.rmtree("data/street")
    with pytest.raises(
        InputError, match=r"photos/p 03\+ü\.jpg, version .*, and 1 more, .* no longer in S3"
    ):
        workspace.require(["street"])


def test_other_bytes_under_a_version_are_found(root: Path, bucket: Bucket) -> None:
    workspace.push(["street"])
    bucket.client.create_bucket(
        Bucket="plain"
    )  # whose versions are all `null`: they can be overwritten
    bucket.client.put_object(Bucket="plain", Key=NAMES[0], Body=b"other")
    store = Objects.of_workspace()
    listing = imported().listing
    other = imports.Import("s3://plain", {}, {NAMES[0]: "null"}, listing)
    store.imports = lambda: [other]
    with pytest.raises(EvidenceError, match=f"its MD5 is {md5(b'other')}"):
        store.read(md5(NAMES[0].encode()))


def test_a_fresh_clone_is_unchanged_after_a_pull(
    root: Path, bucket: Bucket, tmp_path: Path
) -> None:
    subprocess.run(["git", "clone", "-q", ".", str(tmp_path / "clone")], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "clone")
        dvc("pull")
        bucket.put(NAMES[0], b"other")
        assert (Path("data/street") / NAMES[0]).read_bytes() == NAMES[0].encode()
        workspace.require(["street"])
        assert workspace.changed(["street"]) == {}
        workspace.push(["street"])  # its listing, which DVC's pull leaves out of the cache
        assert objects().missing(md5(name.encode()) for name in NAMES) == []
        (Path("data/street") / NAMES[1]).unlink()
        changed = [{"changed outs": {"data/street": "modified"}}]
        assert workspace.changed(["street"]) == {"data/street.dvc": changed}


def test_what_does_not_fix_every_byte_is_refused(root: Path, bucket: Bucket) -> None:
    path = Path("data/street.dvc")
    with pytest.raises(InputError, match=f"stays at {bucket.url}; change it there"):
        workspace.require_own(Path("data/street"))
    import_again("--no-download", bucket.url)
    with pytest.raises(InputError, match="never fetched"):
        workspace.require(["street"])
    bucket.put("photos/a#b.jpg", b"odd")
    dvc("update", str(path))
    with pytest.raises(InputError, match=r"'photos/a#b.jpg' by version; rename it"):
        workspace.require(["street"])
    bucket.client.create_bucket(Bucket="unversioned")
    bucket.client.put_object(Bucket="unversioned", Key="street/photos/a.jpg", Body=b"a")
    import_again("s3://unversioned/street")
    with pytest.raises(InputError, match=r"photos/a.jpg has no version.* turn .* versioning on"):
        workspace.require(["street"])
    path.write_text("outs: [")
    with pytest.raises(InputError, match=r"street\.dvc: not valid YAML"):
        workspace.require(["street"])


def test_a_bucket_that_does_not_answer(
    root: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.push(["street"])
    name = md5(NAMES[0].encode())
    address = f"{bucket.url}: .*"
    for setting in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(setting)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(UnavailableError, match=f"{address}Unable to locate credentials; check AWS"):
        objects().read(name)
    with pytest.raises(UnavailableError, match=f"{address}Unable to locate credentials"):
        objects().missing([name])


def test_a_remote_of_the_settings_gives_the_address(
    root: Path, bucket: Bucket, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    dvc("remote", "add", "archive", "s3://photos")
    dvc("remote", "modify", "archive", "endpointurl", s3)
    import_again(f"remote://archive/{bucket.prefix}")
    workspace.push(["street"])
    assert imported().url == f"remote://archive/{bucket.prefix}"
    assert objects().missing(md5(name.encode()) for name in NAMES) == []
    dvc("remote", "remove", "archive")
    with pytest.raises(InputError, match="archive"):
        objects().read(md5(NAMES[0].encode()))


@pytest.mark.parametrize(
    "text",
    ["", "outs: []", "deps: 3", "deps: [{path: a, md5: b}]\nouts: [{md5: c}]", "[1]",
     "deps: [{path: a, files: [1]}]\nouts: [{md5: c}]",
     "deps: [{path: a, files: [], fs_config: 1}]\nouts: [{md5: c}]"],
)  # fmt: skip
def test_any_other_file_imports_nothing(text: str) -> None:
    assert imports.of(yaml.safe_load(text)) is None


def test_a_record_cannot_name_files_that_say_what_to_run() -> None:
    options = {"version_aware": True, "configpath": "evil", "credentialpath": "evil"}
    dep = {"path": "s3://a/b/", "files": [], "fs_config": options}
    found = imports.of({"deps": [dep], "outs": [{"md5": "c"}]})
    assert found == imports.Import("s3://a/b", {"version_aware": True}, {}, "c")
