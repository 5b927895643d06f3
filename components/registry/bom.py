"""The bill of materials of a version: CycloneDX 1.6 with machine learning's parts, as JSON.

A pure function of the lineage record: the model, its data sets, the teacher, the backbone's first
weights and the packages it was trained with, each with licence and hash where they are known. It
holds no time and a serial number drawn from the record, so the same record gives the same bytes.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
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
from components.registry.licences import backbone, code_alone, licences

_SPDX = (
    "Apache-2.0",
    "MIT",
    "BSD-3-Clause",
    "CC0-1.0",
    "CC-BY-4.0",
    "CC-BY-SA-4.0",
    "CC-BY-NC-4.0",
)
_NAMESPACE = uuid.UUID("6f6c1c1e-3c0a-5b0e-9d0c-2b8a7e0f4a55")  # of serial numbers, drawn once


def render(name: str, record: Mapping[str, Any]) -> str:
    """The BOM as JSON text.

    Args:
        name: of the model, e.g. its registry name.
        record: the version's lineage record.
    """
    digest = sha256_json(record)
    model = _model(name, record, digest)
    bom = Bom(components=[*_materials(record), *_packages(record)])
    bom.metadata.component = model
    bom.serial_number = uuid.uuid5(_NAMESPACE, digest)
    bom.register_dependency(model, bom.components)
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string()
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
    known = licences(record)
    for name, data in record["datasets"].items():
        reference = f"data set {name}"
        yield Component(
            name=name,
            type=ComponentType.DATA,
            bom_ref=reference,
            description=data.get("source") or None,
            licenses=_licence(known[reference]),
            properties=[Property(name="iml:boxes_sha256", value=data["boxes_sha256"])],
        )
    teacher = record["teacher"]
    kind = (
        ComponentType.LIBRARY
        if code_alone(teacher["name"])
        else ComponentType.MACHINE_LEARNING_MODEL
    )
    yield _component(teacher["name"], kind, f"teacher {teacher['name']}", known, teacher["sha256"])
    network, weights = backbone(record)
    if f"backbone {network}" in known:
        digest = (record.get("backbone") or {}).get("sha256")
        yield _component(
            network,
            ComponentType.MACHINE_LEARNING_MODEL,
            f"backbone {network}",
            known,
            digest,
            description=f"initial weights: {weights}",
        )


def _component(
    name: str,
    kind: ComponentType,
    reference: str,
    known: Mapping[str, str],
    sha256: str | None,
    description: str | None = None,
) -> Component:
    return Component(
        name=name,
        type=kind,
        bom_ref=reference,
        description=description,
        hashes=_hashes(sha256),
        licenses=_licence(known.get(reference)),
    )


def _licence(text: str | None) -> list[DisjunctiveLicense]:
    if text is None:
        return []
    if spdx.is_supported_id(text):
        return [DisjunctiveLicense(id=text)]
    return [DisjunctiveLicense(name=text)]


def _hashes(sha256: str | None) -> list[HashType]:
    if not sha256 or len(sha256) != 64:
        return []
    return [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]


def _packages(record: Mapping[str, Any]) -> Iterator[Component]:
    for name, version in record["environment"]["packages"].items():
        purl = PackageURL("pypi", name=name, version=version)
        yield Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            bom_ref=str(purl),
            purl=purl,
        )
