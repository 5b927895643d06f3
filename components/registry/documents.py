"""A version's documents: model card and bill of materials, pure functions of its lineage record.

The card (Mitchell et al. 2019) is Markdown. The bill of materials (BOM) is CycloneDX 1.6 with
machine learning's parts: the model, its data sets, the teacher, the backbone's first weights and
the packages it was trained with, each with licence and hash where they are known. It holds no time
and a serial number drawn from the record, so the same record gives the same bytes.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cyclonedx import spdx
from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from components.core.files import sha256_json
from components.registry import layout
from components.registry.licences import backbone, code_alone, licences, stage_params

_NAMESPACE = uuid.UUID("6f6c1c1e-3c0a-5b0e-9d0c-2b8a7e0f4a55")  # of serial numbers, drawn once

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


def card(name: str, record: Mapping[str, Any]) -> str:
    """The card of a model of this name, Markdown."""
    sections = {
        "Intended use": [_USE],
        "How it was made": _made(record),
        "Data and licences": _data(record),
        "Metrics": _figures(record),
        "Limits": [_LIMITS],
        "Where it comes from": _origin(record),
    }
    about = "Finds the manipulated region of a photo (BoxPromptIML, arXiv 2511.20359)."
    lines = [f"# {_plain(name)}", "", about, ""]
    for title, section in sections.items():
        lines += [f"## {title}", "", *section, ""]
    return "\n".join(lines)


def summary(record: Mapping[str, Any]) -> str:
    """A few lines for a list or the head of a page, Markdown."""
    network, _ = backbone(record)
    labels = {"f1": "F1", "false_alarm_area": "false-alarm area", "image_auc": "image AUC"}
    lines = []
    for name, block in record["evaluation"].items():
        figures = [f"{label} {_value(block['result'].get(k))}" for k, label in labels.items()]
        lines.append(f"{', '.join(figures)} on {_plain(name)}.")
    lines.append(f"`{network}`, distilled from `{record['teacher']['name']}`.")
    return "\n\n".join(lines)


def _made(record: Mapping[str, Any]) -> Iterator[str]:
    network, weights = backbone(record)
    distill = stage_params(record, "distill")
    yield f"- Student: `{network}`, initial weights `{weights}`, with memory-guided gated fusion."
    yield f"- Teacher: `{record['teacher']['name']}` (SHA-256 `{record['teacher']['sha256']}`)."
    if distill:
        yield (
            f"- Training: {distill.get('epochs')} epochs at {distill.get('size')} pixels, batch "
            f"{distill.get('batch')}, seed {distill.get('seed')}."
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
        blocks = {label: result.get(key) for key, label in _FIGURES.items()}
        blocks |= {f"F1, {kind}": g["f1"] for kind, g in result.get("groups", {}).items()}
        rows = [
            (label, _value(figure), _interval(figure), str(figure.get("n", "")))
            for label, figure in blocks.items()
            if isinstance(figure, Mapping)
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


def bom(name: str, record: Mapping[str, Any]) -> str:
    """The bill of materials of a model of this name, as JSON text."""
    digest = sha256_json(record)
    model = _model(name, record, digest)
    found = Bom(components=[*_materials(record), *_packages(record)])
    found.metadata.component = model
    found.serial_number = uuid.uuid5(_NAMESPACE, digest)
    found.register_dependency(model, found.components)
    text = make_outputter(found, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string()
    plain = json.loads(text)
    # The library notes the time of writing; the ledger knows when a version was registered.
    plain["metadata"].pop("timestamp", None)
    return json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _model(name: str, record: Mapping[str, Any], digest: str) -> Component:
    files = record["files"]
    return Component(
        name=name,
        version=record["git"]["commit"],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="model",
        hashes=_hashes(files.get("student.safetensors")),
        properties=[
            Property(name="iml:lineage_record_sha256", value=digest),
            *(Property(name=f"iml:sha256:{file}", value=files[file]) for file in sorted(files)),
        ],
        external_references=[
            ExternalReference(type=ExternalReferenceType.MODEL_CARD, url=XsUri(layout.CARD))
        ],
    )


def _materials(record: Mapping[str, Any]) -> Iterator[Component]:
    """Data sets, the teacher and the backbone's first weights, with their licences."""
    known = licences(record)

    def part(what: str, name: str, kind: ComponentType, **more: Any) -> Component:
        reference = f"{what} {name}"
        licence = _licence(known.get(reference))
        return Component(name=name, type=kind, bom_ref=reference, licenses=licence, **more)

    for name, data in record["datasets"].items():
        boxes = Property(name="iml:boxes_sha256", value=data["boxes_sha256"])
        source = data.get("source") or None
        yield part("data set", name, ComponentType.DATA, description=source, properties=[boxes])
    teacher, weights_kind = record["teacher"], ComponentType.MACHINE_LEARNING_MODEL
    kind = ComponentType.LIBRARY if code_alone(teacher["name"]) else weights_kind
    yield part("teacher", teacher["name"], kind, hashes=_hashes(teacher["sha256"]))
    network, weights = backbone(record)
    if f"backbone {network}" in known:
        digest = (record.get("backbone") or {}).get("sha256")
        first = f"initial weights: {weights}"
        yield part("backbone", network, weights_kind, description=first, hashes=_hashes(digest))


def _licence(text: str | None) -> list[DisjunctiveLicense]:
    if text is None:
        return []
    known = spdx.is_supported_id(text)
    return [DisjunctiveLicense(id=text) if known else DisjunctiveLicense(name=text)]


def _hashes(sha256: str | None) -> list[HashType]:
    if not sha256 or len(sha256) != 64:
        return []
    return [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]


def _packages(record: Mapping[str, Any]) -> Iterator[Component]:
    library = ComponentType.LIBRARY
    for name, version in record["environment"]["packages"].items():
        purl = PackageURL("pypi", name=name, version=version)
        yield Component(name=name, version=version, type=library, bom_ref=str(purl), purl=purl)
