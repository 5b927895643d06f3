"""Bad input through the real command line: one clear line, exit code 2, nothing lost."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from e2e_support import Workspace
from PIL import Image

pytestmark = pytest.mark.e2e
Spoil = Callable[[Path, dict], None]


def make_coco(folder: Path) -> dict:
    """Four photos on disk and their COCO index: two manipulated, two authentic."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(3)
    images, annotations = [], []
    for number in range(4):
        name = f"photo{number}.jpg"
        pixels = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
        images.append({"id": number, "file_name": name, "width": 64, "height": 48})
        if number < 2:
            box = {"bbox": [8, 8, 20, 16], "area": 320, "category_id": 1, "iscrowd": 0}
            annotations.append({"id": number, "image_id": number, **box})
    categories = [{"id": 1, "name": "manipulated"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def huge_header(path: Path) -> None:
    """A PNG that claims 60,000 x 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    path.write_bytes(data + struct.pack(">I", zlib.crc32(chunk)))


@contextmanager
def changed_params(workspace: Workspace, **blocks: dict) -> Iterator[None]:
    """Change params.yaml for the block."""
    path = workspace.root / "params.yaml"
    text = path.read_text()
    workspace.params(**blocks)
    try:
        yield
    finally:
        path.write_text(text)


def rename(index: dict, folder: Path, name: str) -> Path:
    index["images"][0]["file_name"] = name
    return folder / name


def truncate(folder: Path, index: dict) -> None:
    photo = folder / "photo0.jpg"
    photo.write_bytes(photo.read_bytes()[:900])


def box(*values: float) -> Spoil:
    def spoil(folder: Path, index: dict) -> None:
        index["annotations"][0]["bbox"] = list(values)

    return spoil


SPOILED: dict[str, tuple[Spoil, str]] = {
    "missing photo": (lambda f, i: (f / "photo0.jpg").unlink(), "photo0.jpg"),
    "zero bytes": (lambda f, i: (f / "photo0.jpg").write_bytes(b""), "photo0.jpg"),
    "truncated": (truncate, "photo0.jpg"),
    "text as png": (lambda f, i: rename(i, f, "a.png").write_text("hello") and None, "a.png"),
    "huge header": (lambda f, i: huge_header(rename(i, f, "a.png")), "a.png"),
    "box outside": (box(50, 8, 40, 10), "photo0.jpg"),
    "box inverted": (box(30, 8, -10, 10), "photo0.jpg"),
    "box NaN": (box(float("nan"), 8, 10, 10), "photo0.jpg"),
    "unknown image": (lambda f, i: i["annotations"][0].update(image_id=99), "99"),
    "duplicate ids": (lambda f, i: i["images"][1].update(id=0), "annotations.json"),
    "leaves the root": (
        lambda f, i: i["images"][0].update(file_name="../../x.jpg"),
        "x.jpg: no such file",
    ),
    "empty": (lambda f, i: i.update(images=[], annotations=[]), "no photos"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_an_import_is_all_or_nothing(workspace: Workspace, tmp_path: Path, case: str) -> None:
    index = make_coco(tmp_path / "source")
    spoil, named = SPOILED[case]
    spoil(tmp_path / "source", index)
    path = tmp_path / "source/annotations.json"
    path.write_text(json.dumps(index))
    before = workspace.hashes("data/demo")
    line = workspace.refused("iml", "dataset", "import", str(path), "--name", "bad")
    assert named in line
    assert not (workspace.root / "data/bad").exists()
    assert workspace.hashes("data/demo") == before


def test_a_good_import_passes_where_those_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "source/annotations.json"
    index = make_coco(tmp_path / "source")
    path.write_text(json.dumps(index))
    workspace.iml("dataset", "import", str(path), "--name", "good", "--no-track")
    assert (workspace.root / "data/good/boxes.json").is_file()


def test_unusable_photos_can_be_left_out_by_name(workspace: Workspace, tmp_path: Path) -> None:
    index = make_coco(tmp_path / "source")
    truncate(tmp_path / "source", index)
    path = tmp_path / "source/annotations.json"
    path.write_text(json.dumps(index))
    arguments = ("--name", "partly", "--no-track", "--quarantine")
    workspace.iml("dataset", "import", str(path), *arguments)
    listed = (workspace.root / "data/partly/import.csv").read_text()
    assert "photo0.jpg,left out,truncated" in listed
    assert "photo1.jpg,taken," in listed


def test_a_mask_of_another_size(workspace: Workspace, tmp_path: Path) -> None:
    index = make_coco(tmp_path / "source/Sp")
    (tmp_path / "source/Gt").mkdir()
    (tmp_path / "source/Au").mkdir()
    for image in index["images"]:
        stem = Path(image["file_name"]).stem
        size = (32, 32) if stem == "photo0" else (64, 48)
        Image.new("L", size, 255).save(tmp_path / f"source/Gt/{stem}_gt.png")
    line = workspace.refused("iml", "dataset", "import", str(tmp_path / "source"), "--name", "bad")
    assert "photo0" in line
    assert not (workspace.root / "data/bad").exists()


def prepare(workspace: Workspace) -> None:
    """The stages `index` and `prepare`."""
    workspace.run("python", "-m", "components.index", "demo")
    workspace.run("python", "-m", "components.prepare")


def test_one_class_only(workspace: Workspace, tmp_path: Path) -> None:
    index = make_coco(tmp_path / "source")
    index["images"] = index["images"][:2]
    path = tmp_path / "source/annotations.json"
    path.write_text(json.dumps(index))
    workspace.iml("dataset", "import", str(path), "--name", "oneclass", "--no-track")
    with changed_params(
        workspace, prepare={"datasets": ["oneclass"]}, evaluate={"datasets": ["oneclass"]}
    ):
        workspace.run("python", "-m", "components.index", "oneclass")
        line = workspace.refused("python", "-m", "components.prepare")
    assert "authentic" in line


@pytest.mark.parametrize(
    ("block", "named"),
    [
        ({"distill": {"epochs": "ten"}}, "distill.epochs"),
        ({"distill": {"epochz": 3}}, "distill.epochz: unknown parameter"),
        ({"distill": {"size": 64}}, "distill.size: moved to distill.student.size"),
        ({"prepare": {"jitter": 0.9}}, "prepare.jitter"),
        ({"prepare": {"dataset": "demo"}}, "prepare.dataset: is now a list"),
        ({"evaluate": {"datasets": []}}, "evaluate.datasets"),
    ],
)
def test_wrong_parameters(workspace: Workspace, block: dict, named: str) -> None:
    with changed_params(workspace, **block):
        assert named in workspace.refused("iml", "run")


def test_a_checkpoint_with_a_wrong_hash(workspace: Workspace) -> None:
    prepare(workspace)
    fake = workspace.root / ".state/sam_vit_b_01ec64.pth"
    fake.parent.mkdir(exist_ok=True)
    fake.write_bytes(b"not a checkpoint" * 100)
    block = {"teacher": "vit_b", "checkpoint": ".state/sam_vit_b_01ec64.pth"}
    with changed_params(workspace, pseudo_label=block):
        line = workspace.refused("python", "-m", "components.pseudo_label")
    assert "sam_vit_b_01ec64.pth" in line
    assert "SHA-256" in line


def test_an_unreachable_hub_names_the_setting_that_needs_none(workspace: Workspace) -> None:
    prepare(workspace)
    workspace.run("python", "-m", "components.pseudo_label")
    block = {"weights": "hub", "backbone": "mobilenetv3_large_100"}
    with changed_params(workspace, distill={"student": block}):
        line = workspace.refused("python", "-m", "components.distill", HF_HUB_OFFLINE="1")
    assert "weights" in line


def test_an_unreachable_prefect_server(workspace: Workspace, free_port: int) -> None:
    address = {"PREFECT_API_URL": f"http://127.0.0.1:{free_port}/api"}
    assert "PREFECT_API_URL" in workspace.refused("iml", "run", **address)


def test_an_unreachable_mlflow_store(workspace: Workspace, free_port: int) -> None:
    address = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port}"}
    line = workspace.refused("iml", "model", "list", **address)
    assert str(free_port) in line


def test_a_full_disk_loses_nothing(workspace: Workspace) -> None:
    """A file-size limit stands in for a full disk: the same OSError path, no root rights."""
    prepare(workspace)
    before = workspace.hashes("runs/prepare")
    limited = "ulimit -f 4; exec python -m components.prepare"
    line = workspace.refused("bash", "-c", limited)
    assert "space" in line
    assert workspace.hashes("runs/prepare") == before
    workspace.run("python", "-m", "components.prepare")
    assert workspace.hashes("runs/prepare") == before


def test_critical_validation_stops_with_the_rows_named(workspace: Workspace) -> None:
    index_path = workspace.root / "data/demo/boxes.json"
    text = index_path.read_text()
    index = json.loads(text)
    spoiled = index["annotations"][0]
    photo = next(i for i in index["images"] if i["id"] == spoiled["image_id"])
    spoiled["bbox"] = [photo["width"] - 5, 5, 50, 20]
    index_path.write_text(json.dumps(index))
    try:
        # Data that no commit and no remote could bring back are not trained on.
        done = workspace.iml("run", code=1)
        assert "the data differ from data/demo.dvc" in done.stderr
        workspace.run("dvc", "add", "--quiet", "data/demo")
        line = workspace.refused("iml", "run")
        assert photo["file_name"] in line
        assert (workspace.root / "runs/validate/report.html").is_file()
    finally:
        index_path.write_text(text)
        workspace.run("dvc", "add", "--quiet", "data/demo")
