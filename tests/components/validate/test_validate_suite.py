"""Every check: a sound data set passes; one fault fails that check, names its rows, no other."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from validate_support import Made

from components.core.errors import InputError
from components.core.files import canonical_json
from components.validate.checks import checks

# Photo 1 is manipulated in train, 0 authentic in train, 5 manipulated in val, 7 in test;
# boxes 0 and 1 are photo 1's.
Fault = Callable[[Made], list[str]]


def name(number: int) -> str:
    return f"photo-{number:02d}.jpg"


def missing_group(made: Made) -> list[str]:
    return [made.set_photo(2, group=None)]


def zero_width(made: Made) -> list[str]:
    return [made.set_photo(0, width=0)]


def twice_the_id(made: Made) -> list[str]:
    made.set_photo(2, image_id=name(0))
    return [name(0)]


def unknown_label(made: Made) -> list[str]:
    return [made.set_photo(0, label="genuine")]


def unknown_split(made: Made) -> list[str]:
    return [made.set_photo(0, split="holdout")]


def lost_photo(made: Made) -> list[str]:
    (made.root / "photos" / name(3)).unlink()
    return [name(3)]


def lost_mask(made: Made) -> list[str]:
    (made.root / "masks" / f"{name(3)}.png").unlink()
    return [name(3)]


def path_leaves_root(made: Made) -> list[str]:
    (made.root.parent / "outside.jpg").touch()
    return [made.set_photo(4, path="../outside.jpg")]


def absolute_path(made: Made) -> list[str]:
    return [made.set_photo(4, path=str(made.root / "photos" / name(4)))]


def folder_as_photo(made: Made) -> list[str]:
    return [made.set_photo(4, path="photos")]


def small_mask(made: Made) -> list[str]:
    return [made.set_photo(5, mask_height=99.0)]


def turned_mask(made: Made) -> list[str]:
    return [made.set_photo(5, mask_width=100.0, mask_height=200.0)]


def mask_of_no_size(made: Made) -> list[str]:
    return [made.set_photo(5, mask_width=np.nan, mask_height=np.nan)]


def box_on_authentic(made: Made) -> list[str]:
    return [made.add_box(name(2), 10, 10, 50, 50)]


def no_box_in_train(made: Made) -> list[str]:
    return [made.drop_boxes(name(1))]


def no_box_in_val(made: Made) -> list[str]:
    return [made.drop_boxes(name(5))]


def no_box_in_test(made: Made) -> list[str]:
    return [made.drop_boxes(name(7))]


def same_bytes_other_label(made: Made) -> list[str]:
    made.set_photo(1, sha256=made.images.loc[0, "sha256"])
    return [name(0), name(1)]


def same_bytes_other_split(made: Made) -> list[str]:
    made.set_photo(6, sha256=made.images.loc[0, "sha256"])
    return [name(0), name(6)]


def same_bytes(made: Made) -> list[str]:
    made.set_photo(2, sha256=made.images.loc[0, "sha256"])
    return [name(0), name(2)]


def group_crosses(made: Made) -> list[str]:
    made.set_photo(6, group="group-02")
    return [name(4), name(5), name(6)]


def box_of_nobody(made: Made) -> list[str]:
    return [made.add_box("nobody.jpg", 10, 10, 50, 50)]


def nan_corner(made: Made) -> list[str]:
    return [made.set_box(0, math.nan, 10, 60, 50)]


def infinite_corner(made: Made) -> list[str]:
    return [made.set_box(0, 10, 10, math.inf, 50)]


def inverted(made: Made) -> list[str]:
    return [made.set_box(0, 60, 10, 10, 50)]


def twice_inverted(made: Made) -> list[str]:
    return [made.set_box(0, 60, 50, 10, 10)]


def empty(made: Made) -> list[str]:
    return [made.set_box(0, 10, 10, 10, 50)]


def over_right_edge(made: Made) -> list[str]:
    return [made.set_box(0, 150, 10, 200.5, 50)]


def over_bottom_edge(made: Made) -> list[str]:
    return [made.set_box(0, 150, 10, 190, 150)]


def over_top_left(made: Made) -> list[str]:
    return [made.set_box(0, -1, 10, 60, 50)]


def narrow(made: Made) -> list[str]:
    return [made.set_box(0, 10, 10, 12.9, 50)]


def small(made: Made) -> list[str]:
    return [made.set_box(0, 10, 10, 13.5, 13.5)]


def whole_photo(made: Made) -> list[str]:
    return [made.set_box(0, 0, 0, 200, 100)]


def drawn_twice(made: Made) -> list[str]:
    return [made.add_box(name(1), *made.boxes.loc[0, ["x0", "y0", "x1", "y1"]])]


def no_test(made: Made) -> list[str]:
    made.images.loc[made.images["split"] == "test", "split"] = "val"
    return ["test"]


def no_train(made: Made) -> list[str]:
    made.images.loc[made.images["split"] == "train", "split"] = "val"
    return ["train"]


def no_val(made: Made) -> list[str]:
    made.images.loc[made.images["split"] == "val", "split"] = "train"
    return ["val"]


def class_not_in_train(made: Made) -> list[str]:
    made.images["group"] = made.images["image_id"]
    rows = (made.images["split"] == "train") & (made.images["label"] == "authentic")
    made.images.loc[rows, "split"] = "val"
    return ["authentic"]


def rare_class(made: Made) -> list[str]:
    keep = (made.images["label"] == "manipulated") | (made.images["image_id"] == name(0))
    made.images = made.images[keep].reset_index(drop=True)
    made.params = made.params.model_copy(update={"min_class_share": 0.2})
    return ["authentic"]


FAULTS: list[tuple[str, Fault]] = [
    ("required_fields", missing_group),
    ("required_fields", zero_width),
    ("unique_image_ids", twice_the_id),
    ("known_labels", unknown_label),
    ("known_splits", unknown_split),
    ("files_present", lost_photo),
    ("files_present", lost_mask),
    ("files_present", path_leaves_root),
    ("files_present", absolute_path),
    ("files_present", folder_as_photo),
    ("mask_size", small_mask),
    ("mask_size", turned_mask),
    ("mask_size", mask_of_no_size),
    ("no_box_on_authentic", box_on_authentic),
    ("box_on_manipulated", no_box_in_train),
    ("box_on_manipulated", no_box_in_val),
    ("box_on_manipulated_test", no_box_in_test),
    ("content_has_one_label", same_bytes_other_label),
    ("content_in_one_split", same_bytes_other_split),
    ("content_unique", same_bytes),
    ("group_in_one_split", group_crosses),
    ("box_has_photo", box_of_nobody),
    ("box_finite", nan_corner),
    ("box_finite", infinite_corner),
    ("box_not_inverted", inverted),
    ("box_not_inverted", twice_inverted),
    ("box_not_inverted", empty),
    ("box_inside", over_right_edge),
    ("box_inside", over_bottom_edge),
    ("box_inside", over_top_left),
    ("box_min_side", narrow),
    ("box_min_area", small),
    ("box_area_share", whole_photo),
    ("box_unique", drawn_twice),
    ("split_not_empty", no_train),
    ("split_not_empty", no_test),
    ("val_not_empty", no_val),
    ("class_in_train", class_not_in_train),
    ("class_balance", rare_class),
]


def test_a_sound_data_set_passes_every_check(made: Made) -> None:
    report = made.judge()
    assert [result.name for result in report.checks if not result.passed] == []
    assert report.passed
    checked = {result.name: result.rows_checked for result in report.checks}
    assert checked["box_inside"] == 16
    assert checked["mask_size"] == 8
    assert checked["box_on_manipulated"] == 6
    assert checked["box_on_manipulated_test"] == 2
    assert min(checked.values()) > 0, "a check that judges nothing cannot fail"


def test_every_check_has_a_fault_here(made: Made) -> None:
    assert {check.name for check in checks(made.params)} == {check for check, _ in FAULTS}


@pytest.mark.parametrize(("check", "fault"), FAULTS, ids=[fault.__name__ for _, fault in FAULTS])
def test_a_fault_fails_its_check_alone_and_names_the_rows(
    made: Made, check: str, fault: Fault
) -> None:
    names = fault(made)
    report = made.judge()
    failed = [result for result in report.checks if not result.passed]
    assert [result.name for result in failed] == [check]
    assert list(failed[0].examples) == names
    assert failed[0].rows_failed >= len(names)
    assert all(name in failed[0].sentence for name in names[:3])
    assert report.passed == (failed[0].severity == "warning")


def test_a_photo_without_an_id_is_judged_by_no_other_photos_boxes(made: Made) -> None:
    """The last photo has boxes; one without an id, authentic or not, has none to judge."""
    assert len(made.boxes[made.boxes["image_id"] == made.images["image_id"].iloc[-1]])
    made.set_photo(0, image_id=None)
    found = {result.name: result for result in made.judge().checks}
    assert [name for name, result in found.items() if not result.passed] == ["required_fields"]


def test_the_float_sum_of_a_coco_box_may_pass_the_edge(made: Made) -> None:
    made.set_box(0, 150, 10, 200 + 1e-9, 50)
    assert made.judge().passed


@pytest.mark.parametrize("corners", [(10, 10, 13, 50), (10, 10, 14, 14), (0, 0, 190, 100)])
def test_a_box_on_the_threshold_passes(made: Made, corners: tuple[float, ...]) -> None:
    made.set_box(0, *corners)
    assert [result.name for result in made.judge().checks if not result.passed] == []


def test_the_same_corners_on_two_photos_are_no_duplicate(made: Made) -> None:
    assert made.boxes.loc[0, "x0"] == made.boxes.loc[2, "x0"]
    assert {r.name: r for r in made.judge().checks}["box_unique"].passed


def test_many_failing_rows_are_counted_and_twenty_named(made: Made) -> None:
    for number in range(3000):
        made.boxes.loc[len(made.boxes)] = [f"lost-{number:04d}", 10.0, 10.0, 50.0, 50.0, "a", 1.0]
    found = {result.name: result for result in made.judge().checks}["box_has_photo"]
    assert found.rows_failed == 3000
    assert found.examples == tuple(f"lost-{number:04d}" for number in range(20))
    assert found.sentence.endswith("3,000 of 3,016 (lost-0000, lost-0001, lost-0002, ...)")


def test_one_photo_with_many_bad_boxes_is_named_once(made: Made) -> None:
    for shift in range(5):
        made.add_box(name(3), 150 + shift, 10, 230 + shift, 50)
    found = {result.name: result for result in made.judge().checks}["box_inside"]
    assert (found.rows_failed, found.examples) == (5, (name(3),))


def test_an_empty_data_set_fails_without_a_traceback(made: Made) -> None:
    made.images, made.boxes = made.images.iloc[:0], made.boxes.iloc[:0]
    report = made.judge()
    assert [result.name for result in report.critical] == ["split_not_empty"]
    with pytest.raises(InputError, match="train, test"):
        report.require("report.html")


def test_a_data_set_without_boxes_or_folder_fails(made: Made) -> None:
    made.boxes = made.boxes.iloc[:0]
    made.root = made.root / "elsewhere"
    names = {result.name for result in made.judge().critical}
    assert names == {"box_on_manipulated", "files_present"}


def test_rows_in_another_order_are_judged_alike(made: Made) -> None:
    group_crosses(made)
    made.images = made.images.sample(frac=1, random_state=3)
    made.boxes = made.boxes.sample(frac=1, random_state=4)
    made.set_box(0, -1, 10, 60, 50)
    found = {result.name: set(result.examples) for result in made.judge().critical}
    assert found == {
        "group_in_one_split": {name(4), name(5), name(6)},
        "box_inside": {name(1)},
    }


def test_the_error_line_says_what_where_which_and_how_to_mend(made: Made) -> None:
    inverted(made)
    lost_photo(made)
    whole = made.judge()
    with pytest.raises(InputError) as caught:
        whole.require("runs/validate/report.html")
    line = caught.value.line()
    assert line.startswith("data/made: ")
    assert "boxes that are empty or inverted: 1 of 16 (photo-01.jpg)" in line
    assert "missing from the data set's folder: 1 of 16 (photo-03.jpg)" in line
    assert line.endswith("see runs/validate/report.html")


def test_the_error_line_tells_three_checks_and_counts_the_rest(made: Made) -> None:
    for fault in (inverted, lost_photo, small_mask, box_of_nobody, group_crosses):
        fault(made)
    whole = made.judge()
    assert len(whole.critical) == 5
    with pytest.raises(InputError, match="and 2 more critical checks failed; see page") as caught:
        whole.require("page")
    assert all(result.sentence in caught.value.line() for result in whole.critical[:3])


def test_control_characters_in_an_id_stay_out_of_the_line(made: Made) -> None:
    made.add_box("evil\n\x1b[31m.jpg", 10, 10, 50, 50)
    report = made.judge()
    with pytest.raises(InputError) as caught:
        report.require("page")
    assert caught.value.line().isprintable()
    assert "evil\\n\\x1b[31m.jpg" in caught.value.line()
    assert report.critical[0].examples == ("evil\n\x1b[31m.jpg",)


def test_the_values_are_finite_json_with_flat_numbers_first(made: Made) -> None:
    whole_photo(made)
    values = made.judge().values()
    assert json.loads(canonical_json(values)) == json.loads(json.dumps(values))
    assert (values["passed"], values["critical_failed"], values["warnings"]) == (True, 0, 1)
    assert values["checks"]["box_area_share"] == 1
    assert all(isinstance(number, int) for number in values["checks"].values())
    detail = {row["name"]: row for row in values["details"]}["box_area_share"]
    assert detail["threshold"] == made.params.max_area_share


def test_equal_inputs_give_equal_values(made: Made) -> None:
    group_crosses(made)
    assert canonical_json(made.judge().values()) == canonical_json(made.judge().values())


def test_columns_as_parquet_gives_them_are_judged_alike(made: Made) -> None:
    small_mask(made)
    before = made.judge()
    made.images = made.images.astype({"label": "object", "width": "int32", "sha256": "object"})
    made.boxes["image_id"] = pd.Series(made.boxes["image_id"].tolist(), dtype="object")
    assert made.judge() == before
