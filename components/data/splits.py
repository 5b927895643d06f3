"""Which photo trains, which validates, which tests: by source group, stable and seeded.

A group's place is a hash of its name and the seed, independent of all other groups. Adding photos
therefore moves no group that keeps its name, as long as these places alone give every split every
class. Where a split lacked a class, a group of that class was moved there; with more photos it may
move back, or another may move instead. A new photo can also join two groups or rename one, and then
that group's place is drawn again. Compare versions over time on photos that neither was trained on.
Splits stated by the data set take precedence: a group with a stated split stays there whole. If
they include no validation photos, those are carved out of `train`, so that nothing is ever selected
on the test photos.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product

from components.core.params import Split
from components.core.seeds import derive

_WHOLE = float(1 << 63)


def assign(
    groups: Sequence[str],
    labels: Sequence[str],
    stated: Sequence[str | None],
    shares: Split,
    seed: int,
) -> list[str]:
    """The split (`train`, `val` or `test`) of every photo.

    Args:
        groups: the source group of each photo.
        labels: what each photo is (authentic, or its kind of manipulation); every split gets all
            of them where the groups allow it.
        stated: the split that the data set states, or None. It is kept even where it tears a group
            apart: validation reports that error, it is not corrected silently.
        shares: of the groups that go to `val` and `test`.
        seed: of the draw.
    """
    classes: dict[str, set[str]] = defaultdict(set)
    for group, label in zip(groups, labels, strict=True):
        classes[group].add(label)
    places = {group: derive(seed, "split", group) / _WHOLE for group in classes}
    places = dict(sorted(places.items(), key=lambda item: item[1]))
    drawn = {group: _draw(place, shares) for group, place in places.items()}
    if not any(stated):
        _balance(drawn, classes, ["train", *(s for s in ("val", "test") if getattr(shares, s) > 0)])
        return [drawn[group] for group in groups]
    pairs = list(zip(groups, stated, strict=True))
    # Of several splits stated for one group, the first counts for its other photos.
    drawn |= {group: split for group, split in reversed(pairs) if split}
    if "val" not in stated and shares.val > 0:
        trained = {group for group, split in pairs if split == "train"}
        trained -= {group for group, split in pairs if split == "test"}
        carved = _carve({g: p for g, p in places.items() if g in trained}, classes, shares.val)
        pairs = [(group, "val" if group in carved else split) for group, split in pairs]
    return [split or drawn[group] for group, split in pairs]


def _draw(place: float, shares: Split) -> str:
    if place < shares.val:
        return "val"
    return "test" if place < shares.val + shares.test else "train"


def _carve(places: Mapping[str, float], classes: Mapping[str, set[str]], share: float) -> set[str]:
    """Those of the training groups that move to `val`; at least one where there are several."""
    drawn = {group: "val" if place < share else "train" for group, place in places.items()}
    _balance(drawn, classes, ["val"])
    carved = {group for group, split in drawn.items() if split == "val"}
    return carved if carved or len(drawn) < 2 else {next(iter(drawn))}


def _balance(drawn: dict[str, str], classes: Mapping[str, set[str]], splits: Sequence[str]) -> None:
    """Move as few groups as possible so that each of the splits has every class (in place).

    Moved is the first group with the missing class whose own split can spare all its classes.
    """

    def spare(group: str) -> bool:
        rest = [other for other in drawn if drawn[other] == drawn[group] and other != group]
        return all(any(label in classes[other] for other in rest) for label in classes[group])

    there = {(split, label) for group, split in drawn.items() for label in classes[group]}
    known = sorted({label for _, label in there})
    for split, label in product(splits, known):
        if (split, label) not in there:
            having = [group for group in drawn if label in classes[group]]
            for group in filter(spare, having):
                drawn[group] = split
                there |= {(split, own) for own in classes[group]}
                break
