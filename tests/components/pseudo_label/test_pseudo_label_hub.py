"""Fetching a model from a hub at a commit: checked, resumed, and never asked for again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_transformers
import torch
from model_hub import COMMIT, NAME, Hub, serving
from pseudo_label_support import settings

from components.core.errors import InputError
from components.core.files import sha256_file, sha256_json
from components.pseudo_label import registry
from components.pseudo_label.hub import MANIFEST

ROOT = Path(__file__).parents[3]
TEACHER = f"hf:{NAME}@{COMMIT}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As published: with files that are not read, among them pickle."""
    folder = tiny_transformers.save(tmp_path_factory.mktemp("model"), "sam2_video")
    torch.save({}, folder / "sam2.1_hiera_tiny.pt")
    (folder / "README.md").write_text("card")
    (folder / "evil.py").write_text("")
    return folder


@pytest.fixture
def hub(model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub(model)) as made:
        monkeypatch.setenv("HF_ENDPOINT", made.base)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield made


def fetch() -> Path:
    return registry.downloadable(TEACHER).fetch()


def test_only_what_is_read_is_fetched_and_every_hash_is_kept(hub: Hub, model: Path) -> None:
    folder = fetch()
    names = ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert sorted(p.name for p in folder.iterdir() if p.name[0] != ".") == sorted(
        [*names, MANIFEST]
    )
    kept = json.loads((folder / MANIFEST).read_text())
    hashes = {name: sha256_file(model / name) for name in names}
    assert {name: file["sha256"] for name, file in kept["files"].items()} == hashes
    assert kept["sha256"] == sha256_json(hashes)
    assert kept["licence"] == "Apache-2.0"
    assert kept["commit"] == COMMIT


def test_the_hub_is_read_by_its_own_library_too(hub: Hub, tmp_path: Path) -> None:
    code = (
        "import sys; from huggingface_hub import HfApi, hf_hub_url, snapshot_download;"
        f"info = HfApi().model_info({NAME!r}, revision={COMMIT!r}, files_metadata=True);"
        "(w,) = [f for f in info.siblings if f.rfilename == 'model.safetensors'];"
        "print(w.lfs.sha256, w.size, info.sha, info.card_data.license);"
        f"print(hf_hub_url({NAME!r}, 'config.json', revision={COMMIT!r}));"
        f"snapshot_download({NAME!r}, revision={COMMIT!r}, local_dir={str(tmp_path / 'a')!r},"
        "allow_patterns=['*.json', '*.safetensors'])"
    )
    env = {**os.environ, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    theirs = {path for _, path, _, _ in hub.asked}
    assert f"/api/models/{NAME}/revision/{COMMIT}" in theirs
    hub.asked.clear()
    folder = fetch()
    assert {path for _, path, _, _ in hub.asked} <= theirs
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        assert (folder / name).read_bytes() == (tmp_path / "a" / name).read_bytes()
    first, address = done.stdout.splitlines()
    size = (folder / "model.safetensors").stat().st_size
    licence = "apache-2.0"
    digest = sha256_file(folder / "model.safetensors")
    assert first == f"{digest} {size} {COMMIT} {licence}"
    assert address == f"{hub.base}/{NAME}/resolve/{COMMIT}/config.json"


def test_once_fetched_the_hub_is_not_asked_again(hub: Hub) -> None:
    folder = fetch()
    hub.asked.clear()
    assert fetch() == folder
    teacher = registry.build(settings(teacher=TEACHER))
    assert teacher.sha256 == registry.downloadable(TEACHER).sha256
    assert (teacher.name, registry.licence(TEACHER, teacher.sha256)) == (TEACHER, "Apache-2.0")
    assert hub.asked == []
    assert [spec.name for spec in registry.fetched()] == [TEACHER]


def test_a_fetch_that_was_cut_off_continues(hub: Hub) -> None:
    hub.cut = "model.safetensors"
    fetch()
    ranges = [asked for _, path, asked, _ in hub.asked if path.endswith(".safetensors") and asked]
    assert ranges
    assert all(asked.startswith("bytes=") and asked != "bytes=0-" for asked in ranges)


def test_a_killed_command_leaves_a_part_and_the_next_continues(hub: Hub, model: Path) -> None:
    folder = registry.downloadable(TEACHER).path
    half = (model / "model.safetensors").read_bytes()[:300_000]
    code = f"""
import os
from components.pseudo_label import checkpoints, registry
real = checkpoints._Transfer._receive
def dying(self):
    if self.url.endswith(".safetensors"):
        self.file.write({len(half)} * b"-")  # replaced below: what a kill leaves
        self.file.flush()
        os._exit(9)
    real(self)
checkpoints._Transfer._receive = dying
registry.downloadable({TEACHER!r}).fetch()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 9
    assert not (folder / MANIFEST).exists()
    assert [*registry.fetched()] == []
    (folder / "model.safetensors.part").write_bytes(half)
    hub.asked.clear()
    fetch()
    assert [(path, asked) for _, path, asked, _ in hub.asked if asked] == [
        (f"/{NAME}/resolve/{COMMIT}/model.safetensors", f"bytes={len(half)}-")
    ] * 2  # at the hub, and where it refers to
    assert not any(path.endswith("config.json") for _, path, _, _ in hub.asked)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_other_bytes_than_stated_are_refused(hub: Hub, file: str) -> None:
    hub.spoil = file
    with pytest.raises(InputError, match="its hash is not") as caught:
        fetch()
    assert file in caught.value.line()
    assert not (registry.downloadable(TEACHER).path / file).exists()
    fetch()


def test_files_that_changed_on_disk_are_refused(hub: Hub) -> None:
    path = fetch() / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InputError, match="not those that were fetched"):
        registry.build(settings(teacher=TEACHER))


def test_a_token_goes_to_the_hub_alone(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "secret"
    with pytest.raises(InputError, match="401") as caught:
        fetch()
    assert "HF_TOKEN" in caught.value.line()
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.asked.clear()
    fetch()
    port = hub.store.rpartition(":")[2]
    seen = {asked == port: given for asked, _, _, given in hub.asked}
    assert seen == {False: "Bearer secret", True: None}


def test_a_model_that_is_no_teacher_is_refused_before_its_weights(hub: Hub, tmp_path: Path) -> None:
    hub.folder = tmp_path
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "model.safetensors").write_bytes(b"x" * 1000)
    with pytest.raises(InputError, match="a model of type 'bert' answers no boxes"):
        fetch()
    assert not any(path.endswith(".safetensors") for _, path, _, _ in hub.asked)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"has not the files.*pickle"):
        fetch()


def command(*given: str, **env: str) -> subprocess.CompletedProcess[str]:
    code = "from flows.cli.main import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(
        [sys.executable, "-c", code, "teacher", *given],
        env=environment,
        text=True,
        capture_output=True,
        check=False,
    )


def test_the_command_fetches_and_lists_it(hub: Hub) -> None:
    done = command("fetch", TEACHER, "--json")
    assert done.returncode == 0, done.stderr
    digest = registry.downloadable(TEACHER).sha256
    assert json.loads(done.stdout)["sha256"] == digest
    rows = {row["name"]: row for row in json.loads(command("list", "--json").stdout)}
    assert rows[TEACHER]["sha256"] == digest
    assert rows[TEACHER]["on_disk"] is True
    assert rows[TEACHER]["licence"] == "Apache-2.0"
    assert rows["mobile_sam"]["on_disk"] is False


def test_a_hub_that_does_not_answer_is_one_clear_line(free_port: int) -> None:
    done = command("fetch", TEACHER, HF_ENDPOINT=f"http://127.0.0.1:{free_port}")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert line.startswith("error: http://127.0.0.1")
    assert "cannot fetch lab/tiny@0123456789ab" in line


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"sha": "' + b"0" * 40 + b'"}'])
def test_an_answer_that_is_none_is_one_clear_line(
    hub: Hub, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "listing", lambda: json.loads(answer) if answer[:1] != b"<" else None)
    with pytest.raises(InputError, match="the answer is"):
        fetch()
