"""The manifest: one row per image, boxes in a second table, both Parquet.

It is what every later stage reads. Paths in the one that `prepare` writes are below `data/`; in one
made of a single folder, of a data set that is only scored, say, they are below that folder.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        # Unique: the photo's path below photos/, after the name of any data set but the first
        ("image_id", pa.string()),
        ("dataset", pa.string()),  # its name
        ("pool", pa.bool_()),  # whether it is in distill.pool: authentic, without annotation
        ("path", pa.string()),  # of the photo
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

    def select(
        self, split: str | None = None, label: str | None = None, dataset: str | None = None
    ) -> Manifest:
        """The rows of one split, label and/or data set, with their boxes."""
        keep = pd.Series(True, index=self.images.index)
        if split is not None:
            keep &= self.images["split"] == split
        if label is not None:
            keep &= self.images["label"] == label
        if dataset is not None:
            keep &= self.images["dataset"] == dataset
        return self.where(keep)

    def where(self, keep: pd.Series) -> Manifest:
        """The rows of `images` where `keep` is true, with their boxes."""
        images = self.images[keep].reset_index(drop=True)
        boxes = self.boxes[self.boxes["image_id"].isin(images["image_id"])]
        return Manifest(images, boxes.reset_index(drop=True))

    def below(self, folder: str) -> Manifest:
        """The same with paths that begin with a folder."""
        paths = {name: f"{folder}/" + self.images[name] for name in ("path", "mask_path")}
        return Manifest(self.images.assign(**paths), self.boxes)  # null stays null


def typed(frame: pd.DataFrame, schema: pa.Schema) -> pd.DataFrame:
    """The frame exactly as it would come back from disk."""
    return pa.Table.from_pandas(
        frame[schema.names], schema=schema, preserve_index=False
    ).to_pandas()


def write_table(path: str | Path, frame: pd.DataFrame, schema: pa.Schema) -> None:
    """Write a frame as Parquet in exactly this schema; equal rows give equal bytes."""
    # Pandas metadata names library versions, which would change the hash of equal rows.
    table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    with atomic(path) as temporary:
        pq.write_table(table.replace_schema_metadata(None), temporary)


def read_table(
    path: str | Path, schema: pa.Schema, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Read Parquet written by `write_table`, or these columns of it.

    Raises InputError when it is not in this schema.
    """
    names, table = _parquet(path, columns)
    if names != schema.names:
        raise InputError(
            f"columns {names}, expected {schema.names}", where=str(path), hint="run `iml run`"
        )
    return table.to_pandas()


def read_columns(path: str | Path, *names: str) -> pd.DataFrame:
    """Some columns of a table that code of another time may have written."""
    known, table = _parquet(path, names)
    if missing := [name for name in names if name not in known]:
        raise InputError(f"has no column {', '.join(missing)}", where=str(path))
    return table.select(names).to_pandas()


def _parquet(path: str | Path, columns: Sequence[str] | None) -> tuple[list[str], pa.Table]:
    """The names of all columns, and those of these names that there are."""
    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow.names, file.read(columns)
    except FileNotFoundError:
        raise InputError("no such file", where=str(path), hint="run `iml run`") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"not a Parquet file ({error})", where=str(path)) from None


def write(folder: str | Path, manifest: Manifest) -> None:
    """Write `manifest.parquet` and `boxes.parquet` into a folder."""
    write_table(Path(folder) / "manifest.parquet", manifest.images, IMAGES)
    write_table(Path(folder) / "boxes.parquet", manifest.boxes, BOXES)


def read(
    folder: str | Path, images: Sequence[str] | None = None, boxes: Sequence[str] | None = None
) -> Manifest:
    """Read both tables from a folder, or these columns of them."""
    return Manifest(
        read_table(Path(folder) / "manifest.parquet", IMAGES, images),
        read_table(Path(folder) / "boxes.parquet", BOXES, boxes),
    )
