"""Photos of the pool: in an epoch's views and in splices, by their share, and in nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from distill_support import Made
from small_students import small_settings

from components.core.params import Distill
from components.core.seeds import generator
from components.data.manifest import Manifest
from components.distill import batches
from components.distill.cache import Decoded, decoded
from components.distill.examples import annotation_hours, collect, counts


def with_pool(made: Made, photos: int) -> Made:
    """The authentic test photo again and again, as another data set's, in the pool."""
    images = made.manifest.images
    (last,) = images[images["split"].eq("test") & images["label"].eq("authentic")].to_dict(
        "records"
    )
    more = [
        {**last, "image_id": f"archive/{n}", "dataset": "archive", "pool": True, "split": "train"}
        for n in range(photos)
    ]
    both = pd.concat([images, pd.DataFrame(more)[images.columns]], ignore_index=True)
    return replace(made, manifest=Manifest(both, made.manifest.boxes))


def data(made: Made, params: Distill) -> Decoded:
    examples = collect(made.manifest, made.dataset, made.pseudo, params)
    return decoded(examples, params, made.root / "cache")


def order(found: Decoded, params: Distill, epoch: int) -> list[int]:
    return batches._order(found, params, epoch).tolist()


def test_a_pool_is_there_in_full_and_costs_no_drawing(made: Made) -> None:
    params = small_settings(share=0.3)
    without = collect(made.manifest, made.dataset, made.pseudo, params)
    pooled = with_pool(made, 6)
    found = collect(pooled.manifest, made.dataset, made.pseudo, params)
    assert [e for e in found if not e.pool] == without
    assert counts(found) == {**counts(without), "pool": 6}
    assert annotation_hours(pooled.manifest, found) == annotation_hours(made.manifest, without)


def test_without_a_pool_an_epoch_is_what_it_was(made: Made) -> None:
    params = small_settings()
    found = data(made, params)
    assert len(found.pool) == 0
    expected = generator(params.seed, "order", 3).permutation(found.train)
    assert order(found, params, 3) == expected.tolist()
    draw, same = generator(1, "donor"), generator(1, "donor")
    photo, _ = batches._donor(found, params, draw)
    assert np.array_equal(photo, found.photo(int(same.choice(found.train)))[0])


@pytest.mark.parametrize(("photos", "share"), [(3, 0.4), (50, 0.4), (6, 0.0)])
def test_an_epoch_keeps_its_length_and_takes_its_share_from_the_pool(
    photos: int, share: float, made: Made
) -> None:
    params = small_settings(pool_share=share)
    found = data(with_pool(made, photos), params)
    assert (len(found.train), len(found.val), len(found.pool)) == (10, 4, photos)
    seen: Counter[int] = Counter()
    for epoch in range(1, 21):
        rows = order(found, params, epoch)
        assert rows == order(found, params, epoch)
        assert len(rows) == 10
        own = [row for row in rows if row in found.train]
        drawn = [row for row in rows if row in found.pool]
        assert (len(own), len(set(own)), len(drawn)) == (10 - 10 * share, len(own), 10 * share)
        assert max(Counter(drawn).values(), default=0) <= -(-len(drawn) // photos)
        seen.update(rows)
    assert set(found.train) <= seen.keys()
    assert order(found, params, 1) != order(found, params, 2)


def test_splices_take_from_the_pool_by_its_share(made: Made) -> None:
    params = small_settings(pool_share=0.25, augment=True, splices=1.0)
    found = data(with_pool(made, 4), params)
    height = {tuple(found.sizes[row]): row for row in found.pool}
    taken = [
        batches._donor(found, params, generator(0, "donor", n))[1].shape in height
        for n in range(400)
    ]
    assert 0.18 < np.mean(taken) < 0.32
    # An epoch of such views can be made, and is the same again.
    first, second = (list(batches.epoch_batches(found, params, 1)) for _ in range(2))
    assert sum(len(batch.photos) for batch in first) == 10
    assert all((a.photos == b.photos).all() for a, b in zip(first, second, strict=True))
