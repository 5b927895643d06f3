"""What changed between two versions, in sentences for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from components.core.errors import CheckError
from components.core.words import plain
from components.data.dataset import PHOTOS
from components.lineage import photos
from components.lineage.evidence import Evidence

_SHOWN = 8  # names in a sentence
_METRICS = {
    "f1": "F1",
    "f1_best": "F1 at the best threshold",
    "f1_at_1_percent": "F1 at 1 % false alarms",
    "image_auc": "image AUC",
    "false_alarm_area": "false-alarm area",
}
_CHANGED_PHOTOS = {  # by column of the manifest
    "sha256": "with other bytes under the same name",
    "mask_sha256": "with another true mask",
    "label": "with another label",
    "split": "moved to another split",
}


def explain(old: Evidence, new: Evidence) -> dict[str, list[str]]:
    """Sentences by topic; raises EvidenceError where a record is missing or broken."""
    before, after = old.record, new.record
    return {
        "data": [*_photos(old, new), *_datasets(before["datasets"], after["datasets"])],
        "parameters": list(
            _each_changed("", old.names.parameters(), new.names.parameters(), "unset")
        ),
        "code": list(_code(old, new)),
        "environment": list(environment(before["environment"], after["environment"])),
        "weights": list(_weights(before, after)),
        "results": list(_results(old, new)),
    }


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _count(names: list[str], what: str, verb: str) -> Iterator[str]:
    if names:
        yield f"{len(names)} {what}{'s' * (len(names) > 1)} {verb}: {_names(names)}."


def _changed(what: str, before: object, after: object) -> Iterator[str]:
    if before != after:
        yield f"{what}: {plain(before) or 'none'} became {plain(after) or 'none'}."


def _each_changed(
    what: str, before: Mapping[str, Any], after: Mapping[str, Any], absent: str
) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        yield from _changed(what + name, before.get(name, absent), after.get(name, absent))


def _photos(old: Evidence, new: Evidence) -> Iterator[str]:
    """Photos and boxes that were added, removed or changed."""
    try:
        before, after = photos.tables(old), photos.tables(new)
    except CheckError as error:
        yield f"The photos cannot be compared: {error.line()}."
        return
    a, b = before.images.set_index("image_id"), after.images.set_index("image_id")
    both = [name for name in a.index if name in b.index]
    yield from _count(sorted(set(b.index) - set(a.index)), "photo", "added")
    yield from _count(sorted(set(a.index) - set(b.index)), "photo", "removed")
    for column, verb in _CHANGED_PHOTOS.items():
        if column not in a or column not in b:
            continue
        changed = [n for n in both if _text(a.at[n, column]) != _text(b.at[n, column])]
        yield from _count(changed, "photo", verb)
    boxes = photos.boxes_by_photo(before.boxes), photos.boxes_by_photo(after.boxes)
    redrawn = [name for name in both if boxes[0].get(name) != boxes[1].get(name)]
    yield from _count(redrawn, "photo", "with other boxes")


def _text(value: Any) -> str:
    return "" if pd.isna(value) else str(value)


def _datasets(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    yield from _count(sorted(after.keys() - before.keys()), "data set", "added")
    yield from _count(sorted(before.keys() - after.keys()), "data set", "removed")
    for name in sorted(before.keys() & after.keys()):
        for field in ("licence", "source"):
            yield from _changed(f"{field} of {name}", before[name][field], after[name][field])


def _code(old: Evidence, new: Evidence) -> Iterator[str]:
    """Files of the code that differ; without git, the packages whose hash differs."""
    a, b = _code_hashes(old), _code_hashes(new)
    changed = sorted(path for path in a.keys() | b.keys() if a.get(path) != b.get(path))
    if changed and old.tree is not None and new.tree is not None:
        one, two = _under(old.tree, changed), _under(new.tree, changed)
        files = sorted(p for p in one.keys() | two.keys() if one.get(p) != two.get(p))
        yield from _count(files, "file", "of the code changed")
    else:
        yield from _count(changed, "part", "of the code changed")
    for evidence in (old, new):
        git = evidence.record["git"]
        if not git["clean"]:
            yield f"{evidence.name} was made with uncommitted changes: {_names(git['dirty'])}."


def _code_hashes(evidence: Evidence) -> dict[str, str]:
    rows = [row for stage in evidence.record["stages"] for row in stage["deps"]]
    data = evidence.inputs().keys() | evidence.outs().keys()
    return {row["path"]: row.get("md5", "") for row in rows if row["path"] not in data}


def _under(tree: Mapping[str, bytes], paths: list[str]) -> dict[str, bytes]:
    roots = tuple(f"{path}/" for path in paths)
    return {p: data for p, data in tree.items() if p in paths or p.startswith(roots)}


def environment(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Python, system, processors and packages that differ."""
    for name in ("python", "system", "cpu", "cores", "gpus", "cuda"):
        yield from _changed(name, before.get(name), after.get(name))
    yield from _each_changed("package ", before["packages"], after["packages"], "absent")


def _weights(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for part in ("teacher", "backbone"):
        a, b = before.get(part) or {}, after.get(part) or {}
        yield from _changed(f"the {part}", a.get("name"), b.get("name"))
        if a.get("name") == b.get("name") and a.get("sha256") != b.get("sha256"):
            yield f"the {part} {a.get('name')} has other weights."
    same = before["files"].get("student.safetensors") == after["files"].get("student.safetensors")
    yield "the student's weights are the same." if same else "the student was trained again."


def _results(old: Evidence, new: Evidence) -> Iterator[str]:
    """Figures that moved, where both versions were tested on the same photos."""
    before, after = old.record["evaluation"], new.record["evaluation"]
    both = sorted(before.keys() & after.keys())
    if not both:
        names = [", ".join(sorted(side)) for side in (before, after)]
        yield f"not comparable: tested on different data sets ({names[0]}; {names[1]})."
    for name in both:
        try:
            one, two = _tested(old, name), _tested(new, name)
        except CheckError as error:
            yield f"{name}: comparable only on the same photos, which are unknown: {error.line()}."
            continue
        if one == two:
            yield from _figures(name, before[name]["result"], after[name]["result"])
        else:
            same = len(one.items() & two.items())
            yield (
                f"{name}: not comparable: tested on different photos "
                f"({len(one)} and {len(two)}, {same} of them the same)."
            )


def _tested(evidence: Evidence, name: str) -> dict[str, str | None]:
    """MD5 by name of each photo that a version was scored on; raises as `Evidence.read` does.

    Names are those within the data set.
    """
    files = evidence.input_files(evidence.names.path("dataset", name))
    scored = evidence.table("images", ["image_id"], dataset=name)["image_id"]
    if name in evidence.datasets[1:]:
        scored = scored.str.removeprefix(f"{name}/")
    return {str(photo): files.get(f"{PHOTOS}/{photo}") for photo in scored}


def _figures(name: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    for key, title in _METRICS.items():
        if key not in a or key not in b:  # a version from before it was measured
            continue
        one, two = ((side.get(key) or {}).get("value") for side in (a, b))
        if one is None or two is None:
            yield from _changed(f"{title} on {name}", one, two)
        elif one != two:
            verb = "rose" if two > one else "fell"
            yield f"{title} on {name} {verb} from {one:.4g} to {two:.4g} ({two - one:+.4g})."
