"""Data sets read and written by annotation tools' own code; run by an interpreter that has them.

    python annotation_tools.py read TOOL FORMAT FOLDER           boxes by photo, JSON on stdout
    python annotation_tools.py write TOOL FORMAT BOXES PHOTOS OUT

BOXES is such a JSON file: `{"a.jpg": [[x0, y0, x1, y1], ...]}`, photos by base name, pixels.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

Boxes = dict[str, list[list[float]]]
_LABEL = "manipulated"


# --- datumaro


def datumaro_read(format: str, folder: Path) -> Boxes:
    from datumaro import Dataset

    return {
        Path(item.media.path).name: [_corners(one) for one in _drawn(item.annotations)]
        for item in Dataset.import_from(str(folder), format)
    }


def _drawn(annotations: list[Any]) -> list[Any]:
    """Boxes; other shapes only where a group has no box."""
    boxes = [one for one in annotations if one.type.name == "bbox"]
    boxed = {one.group for one in boxes} - {0}
    shapes = [one for one in annotations if one.type.name in ("polygon", "mask")]
    return [*boxes, *(one for one in shapes if one.group not in boxed)]


def _corners(annotation: Any) -> list[float]:
    x, y, width, height = map(float, annotation.get_bbox())
    return [x, y, x + width, y + height]


def datumaro_write(format: str, boxes: Boxes, photos: Path, out: Path) -> None:
    from datumaro import Bbox, Dataset, DatasetItem, Image

    items = []
    number = 0
    for path in sorted(photos.rglob("*.jpg")):
        drawn = []
        for x0, y0, x1, y1 in boxes[path.name]:
            number += 1
            box = (x0, y0, x1 - x0, y1 - y0)
            drawn.append(Bbox(*box, label=0, id=number, group=number))
        subset, media = ("train", "val")[len(items) % 2], Image.from_file(path=str(path))
        items.append(DatasetItem(id=path.stem, subset=subset, media=media, annotations=drawn))
    made = Dataset.from_iterable(items, categories=[_LABEL])
    made.export(str(out), format, save_media=True)


# --- supervision


def supervision_read(format: str, folder: Path) -> Boxes:
    import supervision as sv

    found: Boxes = {}
    for part in _supervision_parts(sv, format, folder):
        for path, _, detections in part:
            found[Path(path).name] = detections.xyxy.tolist()
    return found


def _supervision_parts(sv: Any, format: str, folder: Path) -> Any:
    """A data set of each split, as a user would open it."""
    data = sv.DetectionDataset
    if format == "coco":
        for file in sorted((folder / "annotations").glob("*.json")):
            yield data.from_coco(str(folder / "images"), str(file))
    elif format == "yolo":
        for images in sorted((folder / "images").iterdir()):
            labels = folder / "labels" / images.name
            yield data.from_yolo(str(images), str(labels), str(folder / "data.yaml"))
    else:
        photos, annotations = folder / "JPEGImages", folder / "Annotations"
        yield data.from_pascal_voc(str(photos), str(annotations))


def supervision_write(format: str, boxes: Boxes, photos: Path, out: Path) -> None:
    import numpy as np
    import supervision as sv

    paths = {path.name: str(path) for path in sorted(photos.rglob("*.jpg"))}
    detections = {
        paths[name]: sv.Detections(xyxy=np.array(rows, float), class_id=np.zeros(len(rows), int))
        if rows
        else sv.Detections.empty()
        for name, rows in boxes.items()
    }
    made = sv.DetectionDataset([_LABEL], list(detections), detections)
    if format == "coco":
        made.as_coco(str(out / "images"), str(out / "annotations.json"))
    elif format == "yolo":
        made.as_yolo(str(out / "images"), str(out / "labels"), str(out / "data.yaml"))
    else:
        made.as_pascal_voc(str(out / "JPEGImages"), str(out / "Annotations"))


# --- Label Studio's converter


def labelstudio_read(format: str, folder: Path) -> Boxes:
    """Tasks through the converter to COCO; brushes decoded by its own code."""
    import numpy as np
    from label_studio_sdk.converter import Converter
    from label_studio_sdk.converter.brush import decode_rle

    tasks = json.loads((folder / "tasks.json").read_text())
    out = folder.with_name(f"{folder.name}-coco")
    converter = Converter(str(folder / "config.xml"), str(folder), download_resources=False)
    converter.convert_to_coco(str(folder / "tasks.json"), str(out), is_dir=False)
    made = json.loads((out / "result.json").read_text())
    names = {image["id"]: Path(image["file_name"]).name for image in made["images"]}
    found: Boxes = {Path(task["data"]["image"]).name: [] for task in tasks}
    for row in made["annotations"]:
        x, y, width, height = row["bbox"]
        found[names[row["image_id"]]].append([x, y, x + width, y + height])
    for task in tasks:
        for result in task["annotations"][0]["result"]:
            if result["type"] == "brushlabels":
                size = (result["original_height"], result["original_width"], 4)
                mask = np.reshape(decode_rle(result["value"]["rle"]), size)[:, :, 3] > 0
                ys, xs = np.nonzero(mask)
                box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
                found[Path(task["data"]["image"]).name].append([float(side) for side in box])
    return found


def labelstudio_write(format: str, boxes: Boxes, photos: Path, out: Path) -> None:
    """Tasks by its importer of COCO (or brushes by its codec), further formats from these tasks."""
    import shutil

    from label_studio_sdk.converter import Converter
    from label_studio_sdk.converter.imports.coco import convert_coco_to_ls

    tasks, config = out / "tasks.json", out / "tasks.label_config.xml"
    shutil.copytree(photos, out / "images")
    (out / "source.json").write_text(json.dumps(_coco(boxes, photos)))
    root = "/data/local-files/?d=images"
    convert_coco_to_ls(str(out / "source.json"), str(tasks), image_root_url=root)
    (out / "source.json").unlink()
    made = json.loads(tasks.read_text())
    for number, task in enumerate(made, start=1):  # as the server numbers them
        task["id"] = task["annotations"][0]["id"] = number
        if format == "brush":
            _brush(task)
    tasks.write_text(json.dumps(made))
    if format in ("tasks", "brush"):
        config.unlink()
        return
    converter = Converter(str(config), str(out), download_resources=False)
    convert = getattr(converter, f"convert_to_{format}")
    convert(str(tasks), str(out), output_image_dir=str(out / "images"), is_dir=False)
    tasks.unlink()
    config.unlink()


def _coco(boxes: Boxes, photos: Path) -> dict[str, Any]:
    """A plain COCO index."""
    from PIL import Image

    images, rows = [], []
    for number, (name, corners) in enumerate(boxes.items(), start=1):
        width, height = Image.open(photos / name).size
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for x0, y0, x1, y1 in corners:
            bbox = [x0, y0, x1 - x0, y1 - y0]
            row = {"id": len(rows) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            rows.append({**row, "bbox": bbox, "area": bbox[2] * bbox[3]})
    return {
        "images": images,
        "annotations": rows,
        "categories": [{"id": 1, "name": _LABEL}],
    }


def _brush(task: dict[str, Any]) -> None:
    """Paint a task's rectangles, in whole pixels."""
    import numpy as np
    from label_studio_sdk.converter.brush import mask2rle

    for result in task["annotations"][0]["result"]:
        value, width, height = result["value"], result["original_width"], result["original_height"]
        mask = np.zeros((height, width), np.uint8)
        x0, x1 = (value["x"] * width / 100, (value["x"] + value["width"]) * width / 100)
        y0, y1 = (value["y"] * height / 100, (value["y"] + value["height"]) * height / 100)
        mask[round(y0) : round(y1), round(x0) : round(x1)] = 255
        result["type"] = "brushlabels"
        result["value"] = {"format": "rle", "rle": mask2rle(mask), "brushlabels": [_LABEL]}


READ = {
    "datumaro": datumaro_read,
    "supervision": supervision_read,
    "label-studio": labelstudio_read,
}
WRITE = {
    "datumaro": datumaro_write,
    "supervision": supervision_write,
    "label-studio": labelstudio_write,
}


def main() -> None:
    action, tool, format, *paths = sys.argv[1:]
    if action == "read":
        print(json.dumps(READ[tool](format, Path(paths[0]))))
    else:
        boxes, photos, out = paths
        WRITE[tool](format, json.loads(Path(boxes).read_text()), Path(photos), Path(out))


if __name__ == "__main__":
    main()
