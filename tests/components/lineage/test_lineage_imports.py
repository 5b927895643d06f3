"""A version whose data set stays in S3, against a real S3 server process that keeps versions."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import lineage_support as support
import pytest
from typer.testing import CliRunner

from components import workspace
from components.core.errors import CheckError, UnavailableError
from components.ingest.importing import import_dataset
from components.lineage.audit import audit
from components.lineage.bundle import evidence_of, export
from components.lineage.collect import collect
from components.lineage.replay import prepare
from components.lineage.verdict import Audit, Verdict
from components.workspace import imports, remote
from flows.cli.main import app

NAME = f"{support.MODEL}/1"
DVC = (sys.executable, "-m", "dvc")


@dataclass(frozen=True)
class Project:
    """A workspace with version 1 and the bucket that its data set stays in."""

    root: Path
    client: Any
    bucket: str

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/made"

    def photos(self) -> list[str]:
        return sorted(
            p.relative_to("data/made").as_posix() for p in Path("data/made/photos").rglob("*.png")
        )

    def delete(self, path: str) -> None:
        """An object with its versions."""
        rows = boto3.resource("s3").Bucket(self.bucket).object_versions
        for version in [*rows.filter(Prefix=f"made/{path}")]:
            version.delete()

    def upload(self, folder: Path) -> None:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            key = f"made/{path.relative_to(folder).as_posix()}"
            self.client.upload_file(str(path), self.bucket, key)


@pytest.fixture
def stays(s3: str, tmp_path: Path, standing: Callable[[Path], None]) -> Project:
    root = tmp_path / "stays"
    root.mkdir()
    made = Project(root, boto3.client("s3"), f"b{abs(hash(str(tmp_path)))}")
    made.client.create_bucket(Bucket=made.bucket)
    kept = {"Status": "Enabled"}
    made.client.put_bucket_versioning(Bucket=made.bucket, VersioningConfiguration=kept)
    support.lay_out(root, support.SMALL)
    standing(root)
    support.make_photos(tmp_path / "incoming")
    import_dataset(
        tmp_path / "incoming", tmp_path / "made", name="made", licence="CC0-1.0", source_name="made"
    )
    made.upload(tmp_path / "made")
    (root / "data").mkdir()
    support.run(root, *DVC, "import-url", "--version-aware", made.url, "data/made")
    support.commit(root, "data")
    support.run_stages()
    support.commit(root, "dvc.lock")
    assert support.register(root) == 1
    return made


def audited(*, deep: bool = True) -> Audit:
    with collect(NAME) as evidence:
        return audit(evidence, deep=deep)


def faults(answer: Audit) -> list[str]:
    return [f"{f.verdict} {f.where}: {f.what}" for f in answer.findings if f.fault]


def going(place: str = "DVC cache") -> list[str]:
    """What `iml clean` would remove from a place."""
    done = CliRunner().invoke(app, ["clean", "--days", "0", "--json"])
    assert done.exit_code == 0, done.output
    (cache,) = (one for one in json.loads(done.stdout)["holdings"] if one["what"] == place)
    return list(cache["can_go"]["objects"])


def _other_bytes(stays: Project, photo: str) -> None:
    """Under a version that was not kept, so that other bytes could take its place."""
    stays.client.create_bucket(Bucket=f"{stays.bucket}-plain")
    url = f"s3://{stays.bucket}-plain/made"
    stays.client.put_object(Bucket=f"{stays.bucket}-plain", Key=f"made/{photo}", Body=b"other")
    with collect(NAME) as evidence:
        (one,) = evidence.imports()
        other = imports.Import(url, one.options, {photo: "null"}, one.listing)
        evidence.objects.imports = lambda: [other, one]
        (fault,) = faults(audit(evidence, deep=True))
    assert fault.startswith(f"{Verdict.BROKEN} data/made/{photo}: the object ")
    assert f"in {url}/{photo}, version null" in fault


def test_the_chain_holds_until_a_version_is_gone(
    stays: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = stays.photos()
    with collect(NAME) as evidence:
        files = evidence.data_files()
        record = evidence.record["datasets"]["made"]["dvc"]
    assert all(row["version_id"] for row in record["deps"][0]["files"])
    own = remote.Objects.of_workspace()
    assert set(own.missing(files.values())) == set(files.values())  # nothing was copied
    for path in photos[:3]:
        stays.client.put_object(Bucket=stays.bucket, Key=f"made/{path}", Body=b"other")
    stays.client.delete_object(Bucket=stays.bucket, Key=f"made/{photos[3]}")
    shutil.move(".dvc/cache", tmp_path / "cache")
    answer = audited()
    assert answer.verdict == Verdict.VERIFIED, faults(answer)
    assert answer.objects > len(photos)
    assert any(f"{stays.url} has all" in f.what for f in answer.findings)
    _other_bytes(stays, photos[2])
    with monkeypatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(UnavailableError, match=f"{stays.url}: Unable to locate credentials"):
            audited()

    with collect(NAME) as evidence:
        prepare(evidence, tmp_path / "replayed")
        bundle = tmp_path / "case.tar"
        export(evidence, bundle, photos=True)
    for path in photos:
        again = (tmp_path / "replayed/data/made" / path).read_bytes()
        assert again == (Path("data/made") / path).read_bytes()
    done = CliRunner().invoke(
        app, ["lineage", "show", support.MODEL, "--photo", f"data/made/{photos[0]}"]
    )
    assert done.exit_code == 0, done.output
    assert photos[0] in done.output

    # What S3 has by version can leave the cache, unless the workspace has it now.
    support.run(stays.root, *DVC, "fetch", "data/made.dvc")
    shutil.copytree(tmp_path / "cache", ".dvc/cache", dirs_exist_ok=True)
    assert going("DVC cache, fs")
    support.run(stays.root, *DVC, "update", "data/made.dvc")
    assert files[f"made/{photos[0]}"] in going()
    assert files[f"made/{photos[6]}"] not in going()

    stays.delete(photos[0])
    stays.delete(photos[5])
    assert files[f"made/{photos[0]}"] not in going()
    assert not going("DVC cache, fs")  # it may have the last copy
    for deep in (False, True):
        answer = audited(deep=deep)
        assert answer.verdict == Verdict.UNVERIFIABLE
        said = "\n".join(faults(answer))
        for path in (photos[0], photos[5]):
            assert f"data/made/{path}: object" in said
            assert f"is missing from {stays.url}/{path}, version " in said
        assert said.count("\n") == 1
    with evidence_of(str(bundle)) as evidence:  # asks no server
        assert audit(evidence, deep=True).verdict == Verdict.VERIFIED
    with collect(NAME) as evidence, pytest.raises(CheckError, match=f"missing from {stays.url}"):
        prepare(evidence, tmp_path / "another")


def test_erasing_names_what_the_owner_has_to_do(stays: Project, tmp_path: Path) -> None:
    photo = stays.photos()[0]
    into = CliRunner().invoke(app, ["dataset", "import", "data/made", "--into", "made"])
    assert f"stays at {stays.url}; change it there" in str(into.exception)
    words = ["dataset", "erase", photo, "--dataset", "made", "--reason", "asked", "--by", "ann"]
    before = Path("data/made.dvc").read_bytes()
    cache = tmp_path / "cache"  # one that workspaces share
    shutil.move(".dvc/cache", cache)
    support.run(stays.root, *DVC, "config", "--local", "cache.dir", str(cache))
    fetched = cache / "fs/s3/0123/photo.png"  # as of a pull
    fetched.parent.mkdir(parents=True)
    shutil.copy(Path("data/made") / photo, fetched)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert f"still at {stays.url}: its owner has to delete them there with every version" in said
    assert not (Path("data/made") / photo).exists()
    assert not fetched.exists()
    assert Path("data/made.dvc").read_bytes() == before  # its photos are not this project's now
    (fault,) = faults(audited())
    assert f"has a tombstone, but is still in {stays.url}/{photo}, version" in fault
    assert "data/made.dvc" in workspace.changed(["made"])

    stays.delete(photo)
    stays.upload(Path("data/made"))  # the index without the photo
    support.run(stays.root, *DVC, "update", "data/made.dvc")
    assert faults(audited()) == []
    assert "data/made.dvc" not in workspace.changed(["made"])
