"""A version's documents: model card and bill of materials, pure functions of its lineage record.

The card (Mitchell et al. 2019) is Markdown. The bill of materials (BOM) is CycloneDX 1.6 with
machine learning's parts: the model, its data sets, the teacher, the backbone's first weights and
the packages it was trained with, each with licence and hash where they are known. It holds no time
and a serial number drawn from the record, so the same record gives the same bytes.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import cyclonedx.model as cdx
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from components.core import pages
from components.core.files import sha256_json
from components.registry import layout, schemas
from components.registry.licences import backbone, code_alone, licences

_NAMESPACE = uuid.UUID("6f6c1c1e-3c0a-5b0e-9d0c-2b8a7e0f4a55")  # of serial numbers, drawn once

_FIGURES = {
    "f1": "F1 at 0.5, native resolution, mean over manipulated photos",
    "f1_best": "F1 at the best threshold, chosen on the same photos (optimistic)",
    "f1_at_1_percent": "F1 at the threshold with 1 % false-alarm area",
    "iou": "IoU",
    "auc": "pixel AUC",
    "false_alarm_area": "false-alarm area, share of an authentic photo",
    "image_auc": "image AUC",
    "ece": "expected calibration error (ECE)",
    "imdlbenco_f1": "F1 by IMDL-BenCo's convention",
}


def card(name: str, record: Mapping[str, Any]) -> str:
    """The card of a model of this name, Markdown."""
    network, weights = backbone(record)
    git = record["git"]
    values = {
        "name": name,
        "record": record,
        "network": network,
        "weights": weights,
        "training": schemas.of(record).parameters_of("training"),
        "licences": sorted(licences(record).items()),
        "figures": {name: _rows(block["result"]) for name, block in record["evaluation"].items()},
        "unclean": "" if git["clean"] else f", with {len(git['dirty'])} uncommitted changes",
    }
    return pages.render("card.md", values, {"plain": _plain})


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


def _rows(result: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """What was measured, its value, interval and number of photos."""
    blocks = {label: result.get(key) for key, label in _FIGURES.items()}
    blocks |= {f"F1, {kind}": group["f1"] for kind, group in result.get("groups", {}).items()}
    return [
        (label, _value(block), _interval(block), str(block.get("n", "")))
        for label, block in blocks.items()
        if isinstance(block, Mapping)
    ]


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
    files, card_kind = record["files"], cdx.ExternalReferenceType.MODEL_CARD
    return Component(
        name=name,
        version=record["git"]["commit"],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="model",
        hashes=_hashes(files.get("student.safetensors")),
        properties=[
            cdx.Property(name="iml:lineage_record_sha256", value=digest),
            *(cdx.Property(name=f"iml:sha256:{file}", value=files[file]) for file in sorted(files)),
        ],
        external_references=[cdx.ExternalReference(type=card_kind, url=cdx.XsUri(layout.CARD))],
    )


def _materials(record: Mapping[str, Any]) -> Iterator[Component]:
    """Data sets, the teacher and the backbone's first weights, with their licences."""
    known = licences(record)

    def part(what: str, name: str, kind: ComponentType, **more: Any) -> Component:
        reference = f"{what} {name}"
        licence = _licence(known.get(reference))
        return Component(name=name, type=kind, bom_ref=reference, licenses=licence, **more)

    for name, data in record["datasets"].items():
        boxes = cdx.Property(name="iml:boxes_sha256", value=data["boxes_sha256"])
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


def _licence(text: str | None) -> list[License]:
    """By SPDX's id or expression where it is one, else by name."""
    return [LicenseFactory().make_from_string(text)] if text else []


def _hashes(sha256: str | None) -> list[cdx.HashType]:
    if not sha256 or len(sha256) != 64:
        return []
    return [cdx.HashType(alg=cdx.HashAlgorithm.SHA_256, content=sha256)]


def _packages(record: Mapping[str, Any]) -> Iterator[Component]:
    library = ComponentType.LIBRARY
    for name, version in record["environment"]["packages"].items():
        purl = PackageURL("pypi", name=name, version=version)
        yield Component(name=name, version=version, type=library, bom_ref=str(purl), purl=purl)
