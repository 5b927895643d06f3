from __future__ import annotations

from collections import Counter

import pytest

from components.core.params import Split
from components.data.splits import assign

SHARES = Split(val=0.15, test=0.30)
BOTH = ["manipulated", "authentic"]


def labels(count: int) -> list[str]:
    return [BOTH[number % 2] for number in range(count)]


def nothing(count: int) -> list[None]:
    return [None] * count


def test_groups_are_never_torn_and_shares_are_about_right() -> None:
    groups = [f"g{number % 500}" for number in range(2000)]
    splits = assign(groups, labels(2000), nothing(2000), SHARES, 7)
    assert len(set(zip(groups, splits, strict=True))) == 500
    counts = Counter(splits)
    assert 0.10 < counts["val"] / 2000 < 0.20
    assert 0.25 < counts["test"] / 2000 < 0.35


def test_adding_photos_moves_no_group_where_every_split_had_every_class() -> None:
    groups = [f"g{number}" for number in range(200)]
    before = assign(groups, labels(200), nothing(200), SHARES, 7)
    more = [f"new{number}" for number in range(100)] + groups
    after = assign(more, labels(300), nothing(300), SHARES, 7)
    assert after[100:] == before
    assert assign(groups, labels(200), nothing(200), SHARES, 8) != before


def test_only_groups_moved_for_their_class_go_back_when_photos_are_added() -> None:
    every = {(split, label) for split in ("train", "val", "test") for label in BOTH}
    stayed, went_back = 0, 0
    for seed in range(60):
        groups = [f"g{number}" for number in range(20)]
        places = [assign([group], ["x"], [None], SHARES, seed)[0] for group in groups]
        before = assign(groups, labels(20), nothing(20), SHARES, seed)
        more = groups + [f"new{number}" for number in range(200)]
        after = assign(more, labels(220), nothing(220), SHARES, seed)[:20]
        assert after == places  # with so many no split lacks a class
        if set(zip(places, labels(20), strict=True)) == every:
            assert before == after
            stayed += 1
        went_back += before != after
    assert stayed
    assert went_back


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("mixed", [True, False])
def test_every_split_has_both_classes_where_groups_allow(seed: int, mixed: bool) -> None:
    # Six groups: of both classes each, or three of either.
    groups = [f"g{number // 2}" for number in range(12)]
    classes = labels(12) if mixed else [BOTH[number // 2 % 2] for number in range(12)]
    splits = assign(groups, classes, nothing(12), SHARES, seed)
    assert {(s, c) for s, c in zip(splits, classes, strict=True)} == {
        (s, c) for s in ("train", "val", "test") for c in BOTH
    }


def test_one_group_is_not_torn_and_no_share_means_no_split() -> None:
    assert len(set(assign(["g"] * 4, labels(4), nothing(4), SHARES, 7))) == 1
    whole = Split(val=0.0, test=0.0)
    assert set(assign([f"g{n}" for n in range(9)], labels(9), nothing(9), whole, 7)) == {"train"}


def test_given_splits_are_kept_even_where_they_tear_a_group() -> None:
    given = ["train", "test", "val", "train"]
    assert assign(["a", "a", "b", "c"], labels(4), given, SHARES, 7) == given


def test_nothing_is_carved_where_val_is_given() -> None:
    given = ["val"] + ["train"] * 99
    assert assign([f"g{n}" for n in range(100)], labels(100), given, SHARES, 7) == given


def test_validation_photos_are_carved_out_of_train_by_group_and_test_stays_whole() -> None:
    groups = [f"g{number % 100}" for number in range(400)]
    given = ["test" if number % 100 < 30 else "train" for number in range(400)]
    splits = assign(groups, labels(400), given, SHARES, 7)
    assert [s == "test" for s in splits] == [g == "test" for g in given]
    carved = {g for g, s in zip(groups, splits, strict=True) if s == "val"}
    assert 4 <= len(carved) <= 20
    assert not carved & {g for g, s in zip(groups, splits, strict=True) if s == "train"}


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_is_carved_where_train_can_spare_it(seed: int) -> None:
    kinds = ["authentic"] * 60 + ["splice"] * 36 + ["removal"] * 3 + ["blend"]
    groups = [f"g{number}" for number in range(100)]
    splits = assign(groups, kinds, ["train"] * 99 + ["test"], SHARES, seed)
    held = {(s, k) for s, k in zip(splits, kinds, strict=True)}
    assert {("val", k) for k in ("authentic", "splice", "removal")} <= held
    assert {("train", k) for k in ("authentic", "splice", "removal")} <= held
    assert splits[99] == "test"


def test_a_kind_of_one_group_stays_in_train() -> None:
    kinds = ["authentic"] * 40 + ["removal"]
    for seed in range(20):
        splits = assign([f"g{n}" for n in range(41)], kinds, ["train"] * 41, SHARES, seed)
        place = splits[40]
        drawn = assign([f"g{n}" for n in range(41)], ["x"] * 41, ["train"] * 41, SHARES, seed)
        assert place == drawn[40]


def test_a_group_on_both_sides_is_not_carved() -> None:
    given = ["train", "test", "train", "train"]
    for seed in range(20):
        splits = assign(["a", "a", "b", "c"], labels(4), given, SHARES, seed)
        assert splits[:2] == ["train", "test"]
        assert splits.count("val") >= 1


def test_a_new_photo_follows_its_group() -> None:
    splits = assign(["a", "a", "b"], labels(3), ["test", None, "val"], SHARES, 7)
    assert splits[1] == "test"
