"""The model card (Mitchell et al. 2019): Markdown, a pure function of the lineage record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components.registry.licences import backbone, licences, stage_params

_FIGURES = {
    "f1": "F1 at 0.5, native resolution, mean over manipulated photos",
    "iou": "IoU",
    "auc": "pixel AUC",
    "false_alarm_area": "false-alarm area, share of an authentic photo",
    "image_auc": "image AUC",
    "ece": "expected calibration error (ECE)",
    "imdlbenco_f1": "F1 by IMDL-BenCo's convention",
}
_USE = """\
Points at regions of a photo that look spliced, copied or removed, for a person who decides. It is
an aid to triage and to a forensic examination, not proof: neither a mark nor its absence alone
shows that a photo is or is not authentic."""
_LIMITS = """\
- It was trained on coarse boxes and a teacher's masks, not from exact masks; edges are approximate.
- Photos unlike its data (other cameras, strong recompression, screenshots, generated images) may
  get confident but wrong predictions.
- Whole-photo edits such as colour grading are outside its task.
- Scores are not probabilities of guilt, and say nothing about who edited a photo or why."""


def render(name: str, record: Mapping[str, Any]) -> str:
    """The card as Markdown.

    Args:
        name: of the model, e.g. its registry name.
        record: the version's lineage record.
    """
    return "\n".join(
        [
            f"# {_plain(name)}",
            "",
            "Finds the manipulated region of a photo (BoxPromptIML, arXiv 2511.20359).",
            "",
            *_section("Intended use", [_USE]),
            *_section("How it was made", list(_made(record))),
            *_section("Data and licences", list(_data(record))),
            *_section("Metrics", list(_figures(record))),
            *_section("Limits", [_LIMITS]),
            *_section("Where it comes from", list(_origin(record))),
        ]
    )


def summary(record: Mapping[str, Any]) -> str:
    """A few lines for a list or a page's head, Markdown."""
    network, _ = backbone(record)
    lines = []
    for name, block in record["evaluation"].items():
        figures = [
            f"{label} {_value(block['result'].get(key))}"
            for key, label in (
                ("f1", "F1"),
                ("false_alarm_area", "false-alarm area"),
                ("image_auc", "image AUC"),
            )
        ]
        lines.append(f"{', '.join(figures)} on {_plain(name)}.")
    lines.append(f"`{network}`, distilled from `{record['teacher']['name']}`.")
    return "\n\n".join(lines)


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""]


def _made(record: Mapping[str, Any]) -> Iterator[str]:
    network, weights = backbone(record)
    said = stage_params(record, "distill")
    yield f"- Student: `{network}`, initial weights `{weights}`, with memory-guided gated fusion."
    yield f"- Teacher: `{record['teacher']['name']}` (SHA-256 `{record['teacher']['sha256']}`)."
    if said:
        size = said.get("student", {}).get("size")
        yield (
            f"- Training: {said.get('epochs')} epochs at {size} pixels, batch "
            f"{said.get('batch')}, seed {said.get('seed')}."
        )


def _data(record: Mapping[str, Any]) -> Iterator[str]:
    for name, data in record["datasets"].items():
        source = f", {_plain(data['source'])}" if data.get("source") else ""
        yield f"- Data set {_plain(name)}{source}; boxes SHA-256 `{data['boxes_sha256']}`."
    yield ""
    yield from _table(("of", "licence"), sorted(licences(record).items()))


def _figures(record: Mapping[str, Any]) -> Iterator[str]:
    for name, block in record["evaluation"].items():
        result = block["result"]
        rows = [
            (label, _value(result[key]), _interval(result[key]), _count(result[key]))
            for key, label in _FIGURES.items()
            if isinstance(result.get(key), Mapping)
        ]
        rows += [
            (f"F1, {kind}", _value(group["f1"]), _interval(group["f1"]), _count(group["f1"]))
            for kind, group in result.get("groups", {}).items()
        ]
        yield f"Test photos of {_plain(name)}:"
        yield ""
        yield from _table(("measure", "value", "interval", "photos"), rows)
        yield ""


def _origin(record: Mapping[str, Any]) -> Iterator[str]:
    git = record["git"]
    unclean = "" if git["clean"] else f", with {len(git['dirty'])} uncommitted changes"
    yield f"- git commit `{git['commit']}`{unclean}"
    yield f"- dvc.lock SHA-256 `{record['dvc_lock']['sha256']}`"
    for name, digest in record["files"].items():
        yield f"- {name} SHA-256 `{digest}`"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(_plain(cell) for cell in row)} |"


def _plain(text: object) -> str:
    """Text from outside as one cell or line: nothing of it is markup."""
    flat = " ".join(str(text).split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in flat)


def _value(block: Any) -> str:
    value = block.get("value") if isinstance(block, Mapping) else None
    return "not measured" if value is None else f"{value:.3f}"


def _interval(block: Mapping[str, Any]) -> str:
    low, high = block.get("low"), block.get("high")
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _count(block: Mapping[str, Any]) -> str:
    return str(block.get("n", ""))
