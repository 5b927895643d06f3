"""Two people's opinions compared."""

from __future__ import annotations

import numpy as np
import pytest
from annotate_support import decision
from sklearn.metrics import cohen_kappa_score

from components.annotate.agreement import agreement, cohens_kappa, matched
from components.annotate.decisions import MARKS

BOX = [0.0, 0.0, 10.0, 10.0]


def test_kappa_is_the_usual_one() -> None:
    rng = np.random.default_rng(3)
    for share in (0.2, 0.7, 0.95):
        one = rng.choice(MARKS, 80)
        other = np.where(rng.random(80) < share, one, rng.choice(MARKS, 80))
        pairs = list(zip(one.tolist(), other.tolist(), strict=True))
        assert cohens_kappa(pairs) == pytest.approx(cohen_kappa_score(one, other))
    assert cohens_kappa([]) is None
    assert cohens_kappa([("authentic", "authentic")]) is None


def test_boxes_are_matched_for_the_most_overlap() -> None:
    far = [50.0, 50.0, 60.0, 60.0]
    assert sorted(matched([BOX, far], [far, BOX])) == [1, 1]
    assert sorted(matched([BOX], [far, [0, 0, 10, 5]])) == [0, 0.5]
    assert matched([BOX, far], [[100, 100, 110, 110]]) == [0, 0]


def test_only_photos_with_two_opinions_count() -> None:
    made = [
        decision("a", "Ada", boxes=[BOX]),
        decision("a", "Ben", boxes=[[0.0, 0.0, 10.0, 5.0]]),
        decision("b", "Ada", mark="authentic"),
        decision("b", "Ben", boxes=[BOX]),
        decision("c", "Ben", boxes=[BOX]),
    ]
    found = agreement(made)
    assert (found.photos, found.mean_iou) == (2, 0.5)
    assert found.kappa == pytest.approx(
        cohen_kappa_score(["manipulated", "authentic"], ["manipulated"] * 2)
    )
    assert agreement(made[-1:]).mean_iou is None
