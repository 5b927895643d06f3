"""What is expected of a manifest: every check with its severity, its threshold and its wording.

A failed critical check stops the pipeline; a warning is only shown. Each check is a standard Great
Expectations column expectation on one column of `components.validate.tables`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from components.core.params import Validate
from components.data.manifest import SPLITS
from components.validate.tables import EDGE_TOLERANCE, LABELS

Severity = Literal["critical", "warning"]


@dataclass(frozen=True)
class Check:
    """One expectation and its wording."""

    name: str  # stable key of result.json
    severity: Severity
    table: str  # one of `tables.derive`
    column: str  # of the table; null values are left out
    arguments: dict[str, Any]  # of the expectation: limits, a set of values, or none
    rule: str  # what holds when it passes
    fault: str  # what the failing rows are; continues as "FAULT: 3 of 120"
    hint: str  # what to do about them
    threshold: float | None = None  # the number behind it that params.yaml sets, if any

    @property
    def expectation(self) -> str:
        """Its class in `great_expectations.expectations`."""
        if not self.arguments:
            return "ExpectColumnValuesToBeUnique"
        kind = "InSet" if "value_set" in self.arguments else "Between"
        return f"ExpectColumnValuesToBe{kind}"


def checks(params: Validate) -> list[Check]:
    """Every check with the thresholds of params.yaml, in the order in which people read them."""
    side, area = params.min_side, params.min_area
    largest, rarest = params.max_area_share, params.min_class_share
    return [
        Check("required_fields", "critical", "photos", "missing_fields", {"max_value": 0},
              "Every photo has an id, a path, a hash, a size, a label, a split and a group.",
              "photos that lack a required field",
              "complete their entries in boxes.json and prepare the data set again"),
        Check("unique_image_ids", "critical", "photos", "photo", {},
              "No image id occurs twice.",
              "photos whose image id occurs more than once",
              "give every photo its own file name"),
        Check("known_labels", "critical", "photos", "label", {"value_set": list(LABELS)},
              f"Every label is {' or '.join(LABELS)}.",
              f"photos whose label is neither {' nor '.join(LABELS)}",
              "correct their labels in boxes.json"),
        Check("known_splits", "critical", "photos", "split", {"value_set": list(SPLITS)},
              f"Every split is one of {', '.join(SPLITS)}.",
              f"photos whose split is none of {', '.join(SPLITS)}",
              "correct their splits in boxes.json"),
        Check("files_present", "critical", "photos", "missing_files", {"max_value": 0},
              "Every photo and mask file exists.",
              "photos whose photo or mask file is missing from the data set's folder",
              "restore them with dvc checkout or dvc pull, or import the data set again"),
        Check("mask_size", "critical", "photos", "mask_offset", {"max_value": 0},
              "Every true mask has the size of its photo.",
              "photos whose mask has another size",
              "export these masks again at the photo's own size"),
        Check("no_box_on_authentic", "critical", "photos", "boxes_authentic", {"max_value": 0},
              "No authentic photo has a box.",
              "authentic photos that have a box",
              "remove the boxes, or label these photos manipulated"),
        Check("box_on_manipulated", "critical", "photos", "boxes_learned", {"min_value": 1},
              "Every manipulated photo in train and val has a box: the student learns from boxes.",
              "manipulated photos in train or val without a box",
              "draw a box round each manipulated region, or label these photos authentic"),
        Check("box_on_manipulated_test", "warning", "photos", "boxes_tested", {"min_value": 1},
              "Every manipulated photo in test has a box.",
              "manipulated photos in test without a box",
              "draw their boxes, or make sure that they have true masks to score against"),
        Check("content_has_one_label", "critical", "photos", "content_labels", {"max_value": 1},
              "No photo is in the data set as authentic and as manipulated.",
              "photos whose file is also in the data set with the other label",
              "keep the right one of each pair"),
        Check("content_in_one_split", "critical", "photos", "content_splits", {"max_value": 1},
              "No photo is in two splits.",
              "photos whose file is also in another split",
              "keep one of each, or give the copies the same split"),
        Check("content_unique", "warning", "photos", "content_copies", {"max_value": 1},
              "No photo is in the data set twice under different names.",
              "photos whose file is also in the data set under another name",
              "keep one of each: copies count double in training and scores"),
        Check("group_in_one_split", "critical", "photos", "group_splits", {"max_value": 1},
              "No group of related photos is in two splits.",
              "photos of a group that is in more than one split",
              "move each group into one split, or set split to grouped in dataset.yaml"),
        Check("box_has_photo", "critical", "boxes", "known", {"min_value": 1},
              "Every box belongs to a photo of the manifest.",
              "boxes of unknown photos",
              "correct their image ids or remove them"),
        Check("box_finite", "critical", "boxes", "lost_coordinates", {"max_value": 0},
              "Every coordinate is a finite number.",
              "boxes with a coordinate that is not a finite number",
              "draw these boxes again"),
        Check("box_not_inverted", "critical", "boxes", "side", {"min_value": 0, "strict_min": True},
              "Every box runs from its top left to its bottom right corner.",
              "boxes that are empty or inverted",
              "swap or redraw their corners"),
        Check("box_inside", "critical", "boxes", "outside", {"max_value": EDGE_TOLERANCE},
              "Every box lies inside its photo.",
              "boxes that reach outside their photo",
              "clip or redraw them, and look for photos resized or rotated after annotation"),
        Check("box_min_side", "critical", "boxes", "short_side", {"min_value": side},
              f"Every box is at least {side:g} px wide and high.",
              f"boxes narrower or lower than {side:g} px",
              "redraw or remove them (mostly slips of the mouse)",
              side),
        Check("box_min_area", "critical", "boxes", "area", {"min_value": area},
              f"Every box covers at least {area:g} square pixels.",
              f"boxes smaller than {area:g} square pixels",
              "redraw or remove them (mostly slips of the mouse)",
              area),
        Check("box_area_share", "warning", "boxes", "area_share", {"max_value": largest},
              f"No box covers more than {largest:.4g} of its photo.",
              f"boxes that cover more than {largest:.4g} of their photo",
              "draw them tighter (a box round the whole photo does not locate anything)",
              largest),
        Check("box_unique", "warning", "boxes", "repeated", {"max_value": 0},
              "No photo has the same box twice.",
              "boxes drawn twice on the same photo",
              "remove the copies"),
        Check("split_not_empty", "critical", "splits", "needed", {"min_value": 1},
              "There are photos to train on and photos to test on.",
              "train or test splits without a photo",
              "add photos, or change prepare.split in params.yaml"),
        Check("val_not_empty", "warning", "splits", "wanted", {"min_value": 1},
              "There are photos to choose the best epoch on.",
              "the val split without a photo",
              "add photos, or raise prepare.split.val in params.yaml"),
        Check("class_in_train", "critical", "classes", "learned", {"min_value": 1},
              "Both classes are in train.",
              "classes without a photo in train",
              "add photos of that class: it cannot be learned from the other one"),
        Check("class_balance", "warning", "classes", "share", {"min_value": rarest},
              f"Each class makes up at least {rarest:.4g} of the photos.",
              f"classes that make up less than {rarest:.4g} of the photos",
              "add photos of that class",
              rarest),
    ]  # fmt: skip
