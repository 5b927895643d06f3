"""Which photo trains, which validates, which tests: by source group, stable and seeded.

A group's place is a hash of its name and the seed, whatever other groups there are. So adding
photos moves no group that keeps its name, as long as every split had every class by these places
alone. Where one had none of a class, a group of that class was moved there, and with more photos it
may go back or another go. A new photo can also join two groups or give one a new name, and then its
place is drawn anew. Compare versions over time on photos that neither was trained on.
What the data set says goes first: a group with a given split stays there whole. If the given splits
hold no validation photos, those are carved out of `train`, so that nothing is ever selected on the
test photos.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from components.core.params import Split
from components.core.seeds import derive
from components.data.manifest import SPLITS

_WHOLE = float(1 << 63)


def assign(
    groups: Sequence[str],
    labels: Sequence[str],
    given: Sequence[str | None],
    shares: Split,
    seed: int,
) -> list[str]:
    """The split of every photo.

    Args:
        groups: the source group of each photo.
        labels: what each photo is (authentic, or its kind of manipulation); every split gets all
            of them where the groups allow it.
        given: the split the data set states, or None. It is kept even where it tears a group
            apart: that is an error to be shown, not to be mended in silence.
        shares: of the groups that go to `val` and `test`.
        seed: of the draw.

    Returns:
        `train`, `val` or `test` for each photo.
    """
    stated: dict[str, str] = {}
    for group, split in zip(groups, given, strict=True):
        if split is not None:
            stated.setdefault(group, split)
    places = {group: derive(seed, "split", group) / _WHOLE for group in set(groups)}
    drawn = {group: _draw(places[group], shares) for group in places if group not in stated}
    if not stated:
        _give_both_classes(drawn, groups, labels, shares, places)
    carved = _carve(groups, labels, given, shares, places) if stated else set()
    splits = []
    for group, split in zip(groups, given, strict=True):
        place = split or stated.get(group) or drawn[group]
        splits.append("val" if group in carved else place)
    return splits


def _draw(place: float, shares: Split) -> str:
    """The split of a group by its number in 0..1."""
    if place < shares.val:
        return "val"
    return "test" if place < shares.val + shares.test else "train"


def _carve(
    groups: Sequence[str],
    labels: Sequence[str],
    given: Sequence[str | None],
    shares: Split,
    places: dict[str, float],
) -> set[str]:
    """The groups that move from a given `train` to `val`, where no `val` is given."""
    if "val" in given or shares.val == 0:
        return set()
    held = {group for group, split in zip(groups, given, strict=True) if split == "test"}
    train = {group for group, split in zip(groups, given, strict=True) if split == "train"}
    candidates = sorted(train - held, key=places.__getitem__)
    carved = {group for group in candidates if places[group] < shares.val}
    classes: dict[str, set[str]] = defaultdict(set)
    for group, label in zip(groups, labels, strict=True):
        classes[group].add(label)

    def spare(group: str) -> bool:
        rest = [other for other in candidates if other != group and other not in carved]
        return all(any(label in classes[other] for other in rest) for label in classes[group])

    for label in sorted({label for group in candidates for label in classes[group]}):
        having = [group for group in candidates if label in classes[group]]
        if not carved.intersection(having):
            carved.update([group for group in having if spare(group)][:1])
    if not carved and len(candidates) > 1:
        carved = set(candidates[:1])
    return carved


def _give_both_classes(
    drawn: dict[str, str],
    groups: Sequence[str],
    labels: Sequence[str],
    shares: Split,
    places: dict[str, float],
) -> None:
    """Move as few groups as possible so that each split has photos of every class (in place)."""
    classes: dict[str, set[str]] = defaultdict(set)
    for group, label in zip(groups, labels, strict=True):
        classes[group].add(label)
    wanted = [split for split in SPLITS if split == "train" or getattr(shares, split) > 0]
    order = sorted(drawn, key=places.__getitem__)
    known = sorted({label for found in classes.values() for label in found})
    for split in wanted:
        for label in known:
            if not any(drawn[group] == split and label in classes[group] for group in order):
                _move_one(drawn, order, classes, label, split)


def _move_one(
    drawn: dict[str, str],
    order: Sequence[str],
    classes: dict[str, set[str]],
    label: str,
    split: str,
) -> None:
    """Move the first group with this label whose split can spare all the classes it holds."""

    def spare(group: str) -> bool:
        rest = [other for other in order if drawn[other] == drawn[group] and other != group]
        return all(any(label in classes[other] for other in rest) for label in classes[group])

    for group in order:
        if label in classes[group] and drawn[group] != split and spare(group):
            drawn[group] = split
            return
