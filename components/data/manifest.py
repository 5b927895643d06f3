"""The manifest: one row per image, boxes in a second table, both Parquet.

It is what every later stage reads; paths in it are relative to the data set's folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import InputError
from components.core.files import atomic

AUTHENTIC, MANIPULATED = "authentic", "manipulated"
SPLITS = ("train", "val", "test")

IMAGES = pa.schema(
    [
        ("image_id", pa.string()),  # unique: the photo's path below photos/
        ("path", pa.string()),  # of the photo, below the data set's folder
        ("sha256", pa.string()),  # of the photo's bytes
        ("width", pa.int32()),  # pixels, as decoded (EXIF orientation applied)
        ("height", pa.int32()),
        ("label", pa.string()),  # authentic | manipulated
        ("mask_path", pa.string()),  # true mask, or null
        ("mask_sha256", pa.string()),
        ("mask_width", pa.int32()),
        ("mask_height", pa.int32()),
        ("split", pa.string()),  # train | val | test
        ("group", pa.string()),  # what must not cross splits
        ("source", pa.string()),  # where the photo comes from
        ("kind", pa.string()),  # e.g. splice/free, copy-move/geometric, removal; or null
        ("phash", pa.string()),  # 64-bit perceptual hash, 16 hex digits; null for a flat photo
        ("n_boxes", pa.int32()),
    ]
)
BOXES = pa.schema(
    [
        ("image_id", pa.string()),
        ("x0", pa.float64()),  # pixels, half-open: x0 <= x < x1
        ("y0", pa.float64()),
        ("x1", pa.float64()),
        ("y1", pa.float64()),
        ("annotator", pa.string()),  # or null; "simulated" where drawn from a mask
        ("seconds", pa.float64()),  # time taken to draw it, or null
    ]
)


@dataclass(frozen=True)
class Manifest:
    """Both tables of a data set.

    Attributes:
        images: columns of `IMAGES`, sorted by `image_id`.
        boxes: columns of `BOXES`, sorted by `image_id`, in drawing order within an image.
    """

    images: pd.DataFrame
    boxes: pd.DataFrame

    def select(self, split: str | None = None, label: str | None = None) -> Manifest:
        """The rows of one split and/or label, with their boxes."""
        keep = pd.Series(True, index=self.images.index)
        if split is not None:
            keep &= self.images["split"] == split
        if label is not None:
            keep &= self.images["label"] == label
        return self.where(keep)

    def where(self, keep: pd.Series) -> Manifest:
        """The rows of `images` where `keep` is true, with their boxes."""
        images = self.images[keep].reset_index(drop=True)
        boxes = self.boxes[self.boxes["image_id"].isin(images["image_id"])]
        return Manifest(images, boxes.reset_index(drop=True))


def write_table(path: str | Path, frame: pd.DataFrame, schema: pa.Schema) -> None:
    """Write a frame as Parquet in exactly this schema; equal rows give equal bytes."""
    # Pandas metadata names library versions, which would change the hash of equal rows.
    table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    with atomic(path) as temporary:
        pq.write_table(table.replace_schema_metadata(None), temporary)


def read_table(path: str | Path, schema: pa.Schema) -> pd.DataFrame:
    """Read Parquet written by `write_table`; raises InputError when it is not that."""
    table = _parquet(path)
    if table.schema.names != schema.names:
        raise InputError(f"columns {table.schema.names}, expected {schema.names}", where=str(path))
    return table.to_pandas()


def read_columns(path: str | Path, *names: str) -> pd.DataFrame:
    """Some columns of a table that code of another time may have written."""
    table = _parquet(path)
    if missing := [name for name in names if name not in table.schema.names]:
        raise InputError(f"has no column {', '.join(missing)}", where=str(path))
    return table.select(names).to_pandas()


def _parquet(path: str | Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        raise InputError("no such file", where=str(path), hint="run `iml run`") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"not a Parquet file ({error})", where=str(path)) from None


def write(folder: str | Path, manifest: Manifest) -> None:
    """Write `manifest.parquet` and `boxes.parquet` into a folder."""
    write_table(Path(folder) / "manifest.parquet", manifest.images, IMAGES)
    write_table(Path(folder) / "boxes.parquet", manifest.boxes, BOXES)


def read(folder: str | Path) -> Manifest:
    """Read both tables from a folder."""
    return Manifest(
        read_table(Path(folder) / "manifest.parquet", IMAGES),
        read_table(Path(folder) / "boxes.parquet", BOXES),
    )
