"""Several data sets in one manifest: ids, groups that cross them, the pool."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import pytest

from components.core.errors import InputError
from components.core.params import Prepare, Split
from components.data.build import assemble
from components.data.index import INDEX, Indexed
from components.data.manifest import BOXES, typed
from components.prepare.join import Joined, join

SETTINGS = Prepare(
    datasets=["a"],
    seed=7,
    jitter=0.1,
    split=Split(val=0.2, test=0.3),
    near_duplicate_bits=4,
    max_megapixels=64,
    max_quarantined=0,
)


def photo(name: str, phash: int | None, stated: str | None = None, **more: object) -> dict:
    return {
        "image_id": name,
        "path": f"photos/{name}",
        "sha256": f"{name}-bytes",
        "width": 8,
        "height": 8,
        "label": "authentic",
        "mask_path": None,
        "stated": stated,
        "keys": [name],
        "source": "s",
        "phash": None if phash is None else f"{phash:016x}",
        "n_boxes": 0,
        **more,
    }


def indexed(rows: Iterable[dict], boxed: str = "") -> Indexed:
    images = pd.DataFrame(rows).reindex(columns=INDEX.names)
    box = dict.fromkeys(BOXES.names) | {"image_id": boxed, "x0": 1.0, "y0": 1.0, "x1": 5.0}
    boxes = pd.DataFrame([box | {"y1": 5.0}] if boxed else [], columns=BOXES.names)
    return Indexed("CC0", typed(images, INDEX), typed(boxes, BOXES), [])


def made(pool: Iterable[str] = (), **parts: Indexed) -> Joined:
    return join(parts, SETTINGS, list(pool))


def column(joined: Joined, name: str) -> dict[str, str]:
    images = joined.manifest.images
    return dict(zip(images["image_id"], images[name], strict=True))


# Far apart: hashes that differ in 16 bits at least
HASHES = [0x1111_0000_FFFF_A5A5 ^ (0xFFFF << 16 * (n % 4)) ^ (0x0F0F * (n // 4)) for n in range(8)]


def test_one_data_set_is_what_it_is_alone_but_for_its_place() -> None:
    rows = [photo(f"{n}.png", None, mask_path=f"masks/{n}.png" if n else None) for n in range(40)]
    joined = made(a=indexed(rows, "3.png"))
    alone = assemble("a", indexed(rows, "3.png"), SETTINGS)
    same = [name for name in alone.images if name not in ("path", "mask_path")]
    pd.testing.assert_frame_equal(
        joined.manifest.images[same],
        alone.images.sort_values("image_id", ignore_index=True)[same],
    )
    assert column(joined, "path")["3.png"] == "a/photos/3.png"
    masks = joined.manifest.images.set_index("image_id")["mask_path"]
    assert (masks["3.png"], masks.isna().sum()) == ("a/masks/3.png", 1)
    assert (joined.moved, joined.left_out) == ({}, [])


def test_ids_and_groups_of_all_but_the_first_start_with_their_name() -> None:
    given = [photo("x.png", HASHES[0], "train"), photo("y.png", HASHES[1], "test")]
    other = [
        photo("x.png", HASHES[2], "val", sha256="other"),
        photo("z.png", HASHES[3], "train", keys=["scene"]),
    ]
    joined = made(a=indexed(given), b=indexed(other, "z.png"))
    assert column(joined, "group") == {
        "b/x.png": "b/x.png", "b/z.png": "b/scene", "x.png": "x.png", "y.png": "y.png",
    }  # fmt: skip
    assert column(joined, "dataset")["b/z.png"] == "b"
    assert column(joined, "path")["b/z.png"] == "b/photos/z.png"
    assert joined.manifest.boxes["image_id"].tolist() == ["b/z.png"]
    # Each keeps the split that it states.
    assert column(joined, "split") == {
        "x.png": "train", "y.png": "test", "b/x.png": "val", "b/z.png": "train",
    }  # fmt: skip
    with pytest.raises(InputError, match=r"image_id 'b/x\.png' is there twice"):
        made(a=indexed([photo("b/x.png", None)]), b=indexed([photo("x.png", None)]))


@pytest.mark.parametrize("equal", ["hash", "bytes"])
@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("held", ["test", "val"])
def test_what_is_alike_in_two_data_sets_is_held_back_in_both(
    held: str, order: str, equal: str
) -> None:
    one = photo("1.png", HASHES[0] if equal == "hash" else None, held)
    # Its near-duplicate, and a photo of the same scene as that
    two = photo("2.png", HASHES[0] ^ 0b101 if equal == "hash" else None, "train", keys=["scene"])
    two |= {} if equal == "hash" else {"sha256": one["sha256"]}
    also = photo("3.png", HASHES[2], "train", keys=["scene"])
    rest = [photo(f"{n}.png", HASHES[n], "train" if n < 6 else "val") for n in (4, 5, 6)]
    parts = {"a": indexed([one, *rest]), "b": indexed([two, also, *rest[2:]])}
    joined = made(**{name: parts[name] for name in order})
    at, other = ("", "b/") if order == "ab" else ("a/", "")
    splits, groups = column(joined, "split"), column(joined, "group")
    names = [f"{at}1.png", f"{other}2.png", f"{other}3.png"]
    assert {splits[name] for name in names} == {held}
    assert len({groups[name] for name in names}) == 1
    assert joined.moved == {("b", held): [f"{other}2.png", f"{other}3.png"]}
    assert splits[f"{at}4.png"] == "train"


def test_the_pool_trains_and_moves_nothing() -> None:
    given = [
        photo("t.png", HASHES[0], "test"),
        photo("u.png", HASHES[0] ^ 0b11111111, "train"),
        photo("v.png", HASHES[1], "val"),
        photo("w.png", HASHES[2], "train"),
    ]
    bridge = HASHES[0] ^ 0b1111  # like t and like u, which are not alike
    free = [
        photo("bridge.png", bridge),
        photo("next.png", bridge ^ 0xF0000000_00000000, "val"),  # like the bridge alone
        photo("like-v.png", HASHES[1] ^ 1),
        photo("like-w.png", HASHES[2] ^ 1, "test"),
        photo("other.png", HASHES[3]),
        photo("bytes.png", None, sha256="t.png-bytes"),
    ]
    alone, joined = made(a=indexed(given)), made(["b"], a=indexed(given), b=indexed(free))
    for name in ("split", "group"):
        before, after = column(alone, name), column(joined, name)
        assert {key: after[key] for key in before} == before
    pool = joined.manifest.images[joined.manifest.images["pool"]]
    assert pool["image_id"].tolist() == ["b/like-w.png", "b/other.png"]
    assert set(pool["split"]) == {"train"}
    assert [row.photo for row in joined.left_out] == [
        "b/bridge.png", "b/next.png", "b/like-v.png", "b/bytes.png",
    ]  # fmt: skip
    assert joined.moved == {}


def test_a_pool_has_authentic_photos_only() -> None:
    drawn = [photo("m.png", HASHES[1], label="manipulated"), photo("n.png", HASHES[2])]
    parts = {"a": indexed([photo("t.png", HASHES[0])]), "b": indexed(drawn)}
    with pytest.raises(InputError, match=r"the pool has 1 manipulated photo, b/m\.png first"):
        made(["b"], **parts)
