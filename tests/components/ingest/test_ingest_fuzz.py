"""Damaged sources of every format: one clear line or success, nothing lost, nothing read outside.

A source that a tool could have written is damaged - keys dropped, doubled and retyped, text cut
off or in another encoding, names that lead out of the folder, links - and imported.
"""

from __future__ import annotations

import copy
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_support import write_mask, write_photo
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from components.core.errors import InputError
from components.core.images import SUFFIXES
from components.ingest.formats import registry
from components.ingest.formats.source import Source
from components.ingest.importing import import_dataset

SAMPLE, CAMPAIGN = 96, 2000  # files over all formats
SECRET = "canary"

_opened: list[str] | None = None  # the files that are opened, while this is a list


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str | bytes):
        _opened.append(os.fsdecode(arguments[0]))


sys.addaudithook(_hook)


# --- sources as tools write them


BOX = {"x": 10, "y": 20, "w": 30, "h": 16}  # on a photo of 96x64
OUTLINE = [10, 20, 40, 20, 40, 36, 10, 36]


def coco(root: Path) -> dict[str, Any]:
    rows = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 16], "segmentation": []},
        {"id": 2, "image_id": 2, "category_id": 1, "segmentation": [OUTLINE], "iscrowd": 0},
        {"id": 3, "image_id": 2, "category_id": 2, "bbox": [20, 20, 30, 10],
         "attributes": {"rotation": 30.0, "annotator": "ann", "seconds": 3}},
        {"id": 4, "image_id": 2, "category_id": 1, "iscrowd": 1,
         "segmentation": {"size": [64, 96], "counts": [100, 20, 44, 20]}},
        {"id": 5, "image_id": 2, "category_id": 1,
         "segmentation": {"size": [64, 96], "counts": "T3d00mj0"}},
    ]  # fmt: skip
    images = [
        {"id": number, "file_name": f"images\\{name}.jpg", "width": 96, "height": 64}
        for number, name in enumerate("abc", start=1)
    ]
    categories = [{"id": 1, "name": "manipulated"}, {"id": 2, "name": "removal"}]
    images[0] |= {"label": "manipulated", "split": "train", "origins": ["x"], "group": 3}
    return {"labels.json": {"images": images, "annotations": rows, "categories": categories}}


def label_studio(root: Path) -> dict[str, Any]:
    def row(kind: str, **value: Any) -> dict[str, Any]:
        size = {"original_width": 96, "original_height": 64, "image_rotation": 0}
        return {
            "id": kind,
            "type": f"{kind}labels",
            "value": {f"{kind}labels": ["x"], **value},
        } | size

    # All values of 96x64 RGBA pixels in one run of 255.
    head = f"{24576:032b}{7:05b}" + "".join(f"{length - 1:04b}" for length in (3, 4, 8, 16))
    bits = f"{head}111{24575:016b}{255:08b}"
    bits += "0" * (-len(bits) % 8)
    results = [
        row("rectangle", x=10.0, y=20.0, width=30.0, height=20.0, rotation=10.0),
        row("polygon", points=[[10, 10], [40, 10], [40, 60]]),
        row("ellipse", x=50, y=50, radiusX=10, radiusY=10),
        row("brush", rle=[int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]),
    ]
    tasks = [
        {"id": n, "data": {"image": f"/data/upload/1/0a1b2c3d-{name}.jpg"}, "predictions": [],
         "annotations": [{"result": results[n : n + 2], "was_cancelled": False, "lead_time": 4.0,
                          "completed_by": {"email": "a@b"}, "updated_at": "2025"}]}
        for n, name in enumerate("abc")
    ]  # fmt: skip
    return {"project.json": tasks}


def labelme(root: Path) -> dict[str, Any]:
    shapes = [
        {"label": "x", "shape_type": "rectangle", "points": [[40, 36], [10, 20]]},
        {"label": "x", "shape_type": "polygon", "points": [[10, 20], [40, 20], [40, 36]]},
        {"label": "x", "shape_type": "circle", "points": [[40, 30], [45, 30]]},
        {"label": "x", "shape_type": "mask", "points": [[1, 1], [2, 2]], "mask": "iVBORw0KGgo="},
    ]
    return {
        f"{name}.json": {"shapes": shapes[n : n + 1], "imagePath": f"..\\{name}.jpg",
                         "imageWidth": 96, "imageHeight": 64, "flags": {}}
        for n, name in enumerate("abc")
    }  # fmt: skip


def imdlbenco(root: Path) -> dict[str, Any]:
    write_mask(root / "masks" / "a.png", (10, 20, 40, 36))
    return {"list.json": [["images/a.jpg", "masks/a.png"], ["images/b.jpg", "Negative"]]}


def yolo(root: Path) -> dict[str, Any]:
    return {
        "data.yaml": "path: ../x\ntrain: images\nval: [val.txt]\nnames: {0: x, 1: y}\n",
        "val.txt": "./images/c.jpg\n",
        "labels/a.txt": "0 0.3 0.4 0.3 0.25\n1 0.3 0.4 0.3 0.25 0.9\n",
        "labels/b.txt": "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n",
        "labels/c.txt": "",
    }


def voc(root: Path) -> dict[str, Any]:
    size = "<size><width>96</width><height>64</height></size>"
    corners = "<xmin>11</xmin><ymin>21</ymin><xmax>40</xmax><ymax>36</ymax>"
    turned = "<cx>40</cx><cy>25</cy><w>40</w><h>10</h><angle>0.5</angle>"
    outline = "".join(f"<x{n}>{n * 9}</x{n}><y{n}>{n * n}</y{n}>" for n in range(1, 5))
    shapes = [
        f"<bndbox>{corners}</bndbox>",
        f"<robndbox>{turned}</robndbox>",
        f"<polygon>{outline}</polygon>",
    ]
    return {
        f"Annotations/{name}.xml": '<?xml version="1.0" encoding="utf-8"?>\n<annotation>'
        f"<filename>{name}.jpg</filename>{size}<object><name>x</name>{shape}</object></annotation>"
        for name, shape in zip("abc", shapes, strict=True)
    } | {"ImageSets/Main/test.txt": "a\nb 1\n"}


def cvat(root: Path) -> dict[str, Any]:
    shapes = [
        '<box label="x" xtl="10" ytl="20" xbr="40" ybr="36" rotation="20.5"/>'
        '<points points="1,2"/>',
        '<polygon label="x" points="10,20;40,20;40,36"/><ellipse cx="40" cy="30" rx="9" ry="5"/>',
        '<mask label="x" rle="1, 4, 1" left="10" top="20" width="3" height="2"/>',
    ]
    images = "\n".join(
        f'<image id="{n}" name="{name}.jpg" subset="train" width="96" height="64">{shape}</image>'
        for n, (name, shape) in enumerate(zip("abc", shapes, strict=True))
    )
    return {"annotations.xml": f"<annotations><version>1.1</version>\n{images}</annotations>"}


def folders(root: Path) -> dict[str, Any]:
    for folder, name in (("Tp", "a"), ("Au", "b"), ("Au", "c")):
        (root / folder).mkdir(exist_ok=True)
        (root / "images" / f"{name}.jpg").rename(root / folder / f"{name}.jpg")
    write_mask(root / "Gt" / "a_gt.png", (10, 20, 40, 36))
    lines = ("split,image,mask", "train,Tp/a.jpg,Gt/a_gt.png", "test,Au/b.jpg,", "train,Au/c.jpg,")
    return {"split.csv": "\n".join(lines)}


WRITERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "coco": coco,
    "cvat": cvat,
    "folders": folders,
    "imdlbenco": imdlbenco,
    "labelme": labelme,
    "label-studio": label_studio,
    "voc": voc,
    "yolo": yolo,
}


# --- damage


def deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def junk(outside: Path) -> list[Any]:
    """What may stand where something else is expected."""
    return [
        None, True, -1, 0, 0.5, 1e308, -1e-300, float("nan"), float("inf"), 10**30, 10**400,
        "", "x", ".", "..", "/", "C:", "\0", "a\0.jpg", "\udce9", "nan", "1e999", "-5", "x" * 5000,
        [], {}, [[]], [None], {"a": {"b": []}}, deep(50), deep(400),
        f"../../{SECRET}/secret.jpg", f"{outside}/secret.jpg", f"..\\..\\{SECRET}\\secret.jpg",
        "link.jpg", "linked/secret.jpg", "file:///etc/hostname", "//host/share/a.jpg", "a.jpg",
    ]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a document."""
    found = [path] if path else []
    keys = (
        range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
    )
    for key in keys:
        found += places(value[key], (*path, key))
    return found


def damage_document(document: Any, draw: Any, outside: Path) -> Any:
    """A copy of a document in which something is dropped, doubled or something else."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(0, 3))):
        found = places(document)
        if not found:
            return document
        *path, key = draw(st.sampled_from(found))
        holder = document
        for step in path:
            holder = holder[step]
        act = draw(st.sampled_from(("drop", "double", "replace", "replace")))
        if act == "replace":
            holder[key] = draw(st.sampled_from(junk(outside)))
        elif act == "drop":
            del holder[key]
        elif isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        else:
            holder[f"{key} "] = holder[key]
    return document


def damage_text(text: str, draw: Any, outside: Path) -> str:
    """Text in which lines are dropped or doubled, or words are something else."""
    for _ in range(draw(st.integers(0, 3))):
        words = list(re.finditer(r"[\w./-]+|[<>=:\"]", text))
        if not words:
            return text
        word = draw(st.sampled_from(words))
        value = draw(st.sampled_from(junk(outside)))
        new = draw(st.sampled_from(("", word[0] * 2, str(value)[:300], f"{word[0]}\n")))
        text = text[: word.start()] + new + text[word.end() :]
    return text


def damage_bytes(data: bytes, draw: Any) -> bytes:
    """Bytes cut off or changed, mostly not."""
    act = draw(st.sampled_from(("none",) * 6 + ("cut", "change", "double")))
    place = draw(st.integers(0, max(len(data) - 1, 0)))
    if act == "cut":
        return data[:place]
    if act == "change":
        return data[:place] + bytes([draw(st.integers(0, 255))]) + data[place + 1 :]
    return data * 2 if act == "double" else data


ENCODINGS = ("utf-8",) * 6 + ("utf-8-sig", "utf-16", "utf-32", "latin-1", "cp037")


def write_source(root: Path, outside: Path, format: str, draw: Any) -> None:
    """A source in a format, damaged."""
    for number, name in enumerate("abc"):
        write_photo(root / "images" / f"{name}.jpg", number)
    for name, value in WRITERS[format](root).items():
        if isinstance(value, str):
            text = damage_text(value, draw, outside)
        else:
            text = json.dumps(damage_document(value, draw, outside))
        data = text.encode(draw(st.sampled_from(ENCODINGS)), "replace")
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(damage_bytes(data, draw))
    photo = draw(st.sampled_from(sorted(root.rglob("*.jpg"))))
    act = draw(
        st.sampled_from(("none",) * 4 + ("gone", "cut", "renamed", "link", "folder", "copy"))
    )
    if act == "gone":
        photo.unlink()
    elif act == "cut":
        photo.write_bytes(photo.read_bytes()[:300])
    elif act == "renamed":
        photo.rename(photo.with_name(f"{photo.stem}.{'JPG' if draw(st.booleans()) else 'png'}"))
    elif act == "link":
        photo.unlink()
        photo.symlink_to(outside / "secret.jpg")
    elif act == "folder":
        (root / "linked").symlink_to(outside, target_is_directory=True)
    elif act == "copy":
        write_photo(root / "more" / photo.name, 9)
    (root / "link.jpg").symlink_to(outside / "secret.jpg")


# --- what must hold


def check(root: Path, out: Path, outside: Path, format: str | None, quarantine: bool) -> str:
    """Import a source and check what came of it; returns its outcome."""
    global _opened
    _opened = []
    try:
        reading = registry.read(root, format)
        taken = {os.path.abspath(record.photo) for record in reading.records}
        taken |= {os.path.abspath(record.mask) for record in reading.records if record.mask}
        left = {os.path.abspath(root / one.what) for one in reading.left}
        for name in Source(root).names:
            path = os.path.abspath(root / name)
            assert Path(name).suffix.lower() not in SUFFIXES or path in taken | left, name
        made = import_dataset(
            root, out, name="x", licence="x", source_name="x", format=format, quarantine=quarantine
        )
        assert len(made.dataset.images) + len(made.quarantined) == len(reading.records)
        return "imported"
    except InputError as error:
        complaint = error.line()
    finally:
        opened, _opened = _opened, None
        there = os.path.realpath(outside)
        assert not [path for path in opened if os.path.realpath(path).startswith(there)]
    assert "\n" not in complaint
    assert not out.exists()
    return "refused"


@pytest.mark.parametrize("format", WRITERS)
def test_damaged_sources(
    format: str, campaigns: bool, record_property: Callable[[str, object], None]
) -> None:
    outcomes: list[str] = []

    @seed(17)
    @settings(
        max_examples=(CAMPAIGN if campaigns else SAMPLE) // len(WRITERS),
        deadline=None,
        database=None,
        phases=[Phase.generate],  # a smaller example is not worth minutes
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def campaign(data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as place:
            root, outside = Path(place) / "work" / "in", Path(place) / SECRET
            write_photo(outside / "secret.jpg", 77)
            root.mkdir(parents=True)
            write_source(root, outside, format, data.draw)
            asked = data.draw(st.sampled_from((format, None)))
            quarantine = data.draw(st.booleans())
            outcomes.append(check(root, Path(place) / "out", outside, asked, quarantine))

    campaign()
    assert {"imported", "refused"} == set(outcomes)
    record_property("files", len(outcomes))
    record_property("imported", outcomes.count("imported"))
