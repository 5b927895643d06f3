"""params.yaml as frozen, checked objects: the one place where it is read.

Types are strict (no "7" for 7) and unknown keys are refused; every complaint is an `InputError`
of one line that names the key.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from components.core.errors import InputError
from components.core.paths import PROJECT_FOLDER

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
# A teacher's name, or a model in Hugging Face format: `hf:` and its name or folder.
TeacherName = Annotated[str, Field(pattern=r"^(hf:\S(.*\S)?|[A-Za-z0-9][A-Za-z0-9._-]*)$")]
Seed = Annotated[int, Field(ge=0)]
Side = Annotated[int, Field(ge=32, le=8192)]
Threads = Annotated[int, Field(ge=1, le=256)]


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Split(_Block):
    """Shares of the source groups held back for validation and test."""

    val: Share
    test: Share

    @model_validator(mode="after")
    def _leaves_training_photos(self) -> Split:
        if self.val + self.test >= 1:
            raise ValueError("val and test leave nothing to train on")
        return self


class Prepare(_Block):
    """Manifest, boxes, groups and splits."""

    datasets: Annotated[list[Name], Field(min_length=1)]
    seed: Seed
    jitter: Annotated[float, Field(ge=0, le=0.5)]
    split: Split
    near_duplicate_bits: Annotated[int, Field(ge=0, le=32)]
    max_megapixels: Annotated[float, Field(gt=0, le=1000)]
    max_quarantined: Annotated[int, Field(ge=0)]
    names: Literal["given", "hash"] = "given"  # of photos; versions from before it have none

    @field_validator("datasets")
    @classmethod
    def _each_once(cls, names: list[str]) -> list[str]:
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]} is there twice")
        return names


class Validate(_Block):
    """Thresholds of the expectations on manifest and boxes."""

    min_side: Annotated[float, Field(gt=0)]
    min_area: Annotated[float, Field(gt=0)]
    max_area_share: Share
    min_class_share: Share


class PseudoLabel(_Block):
    """The teacher and how it is prompted."""

    teacher: TeacherName
    checkpoint: str
    margin: Annotated[float, Field(ge=0, le=1)]
    min_confidence: Share
    threads: Threads


class Loss(_Block):
    """What the student is trained on in addition to the soft cross-entropy."""

    confidence: bool
    dice: Annotated[float, Field(ge=0, le=100)]
    boundary: Annotated[float, Field(ge=0, le=100)]


class Network(_Block):
    """A student's network: what `distill.student` and the `student.json` of a version share."""

    backbone: Name  # timm name
    # Side in pixels of the square that the network sees
    size: Annotated[int, Field(ge=64, le=2048, multiple_of=32)]
    channels: Annotated[int, Field(ge=8, le=512)]  # width of the fused grid
    prototypes: Annotated[int, Field(ge=0, le=4096)]  # size of the memory bank; 0 means no memory
    alpha: Literal["learned"] | Share  # weight of the real-time observation, `learned` or fixed
    gates: bool  # whether each scale is gated before the sum
    dual_guidance: bool  # whether the mean gate weighs the real-time observation
    frontend: Literal["none", "highpass"]  # what the backbone sees beside the photo's colours
    # How photos of other sizes are shown to the network (see `components.student.infer`)
    view: Literal["resize", "tiles"]
    overlap: Annotated[float, Field(ge=0, le=0.9)]  # of neighbouring tiles, share of their side
    # Whether copy-moves found by matching are part of the answer (see `components.student.copies`).
    # Students made before it was built have none; it decides nothing about a training.
    copies: bool = False


class StudentParams(Network):
    """The student before its training: its network and the initial weights of the backbone."""

    weights: Annotated[str, Field(min_length=1)]


class Distill(_Block):
    """The student and its training."""

    seed: Seed
    threads: Threads
    supervision: Literal["pseudo_masks", "masks"]
    share: Annotated[float, Field(gt=0, le=1)]
    pool: list[Name]
    pool_share: Annotated[float, Field(ge=0, lt=1)]
    student: StudentParams
    zoom: Annotated[float, Field(ge=1, le=64)]
    device: Literal["cpu", "cuda"]
    amp: bool
    epochs: Annotated[int, Field(ge=1, le=9999)]
    patience: Annotated[int, Field(ge=0)]
    batch: Annotated[int, Field(ge=1)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    backbone_rate: Annotated[float, Field(ge=0, le=1)]
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    ema: Annotated[float, Field(ge=0, lt=1)]
    loss: Loss
    augment: bool
    splices: Share


class Robustness(_Block):
    """Levels of each treatment of the photos."""

    jpeg: list[Annotated[int, Field(ge=1, le=100)]]
    blur: list[Annotated[int, Field(ge=1, le=99)]]
    noise: list[Annotated[float, Field(ge=0, le=10_000)]]
    resize: list[Annotated[float, Field(gt=0, le=1)]]
    social: list[Annotated[int, Field(ge=1, le=100)]]

    @field_validator("blur")
    @classmethod
    def _odd(cls, kernels: list[int]) -> list[int]:
        if any(kernel % 2 == 0 for kernel in kernels):
            raise ValueError("a blur kernel must be odd")
        return kernels


class Evaluate(_Block):
    """Data sets, intervals and seeds of the evaluation."""

    datasets: Annotated[list[Name], Field(min_length=1)]
    gate_dataset: Name | None = None  # versions and workspaces from before it have none
    bootstrap: Annotated[int, Field(ge=100, le=100_000)]
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    seed: Seed
    threads: Threads
    robustness: Robustness


class Export(_Block):
    """ONNX export and its parity check."""

    sizes: Annotated[
        list[Annotated[list[Side], Field(min_length=2, max_length=2)]], Field(min_length=1)
    ]
    tolerance: Annotated[float, Field(gt=0, le=0.1)]


class Gates(_Block):
    """Thresholds a version must pass to become champion; None: not required."""

    min_f1: Share
    min_image_auc: Share
    # Versions and workspaces from before them have none
    min_photos: Annotated[int, Field(ge=1)] | None = None
    min_groups: Annotated[int, Field(ge=1)] | None = None
    max_false_alarm_area: Share
    max_ece: Share | None
    min_robustness: Share | None
    max_megabytes: Annotated[float, Field(gt=0)] | None
    max_latency_ms: Annotated[float, Field(gt=0)] | None
    allowed_licences: list[str] | None
    champion_margin: Share
    champion_alarm_margin: Share
    superiority: bool
    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    require_clean: bool


class Promotion(_Block):
    """Registry name, who decides, and gates; read by flows, never by a stage."""

    model: Name
    mode: Literal["auto", "approve"]
    four_eyes: bool = False
    gates: Gates


class Erasure(_Block):
    """What follows from the erasure of photos; read by flows and commands, never by a stage."""

    retire: bool = False


class Params(_Block):
    """All of params.yaml."""

    prepare: Prepare
    validate_: Annotated[Validate, Field(alias="validate")]
    pseudo_label: PseudoLabel
    distill: Distill
    evaluate: Evaluate
    export: Export
    promotion: Promotion
    erasure: Erasure = Erasure()

    @property
    def datasets(self) -> list[str]:
        """Names of the data sets that the stages read, each once."""
        return list(dict.fromkeys([*self.prepare.datasets, *self.evaluate.datasets]))

    @property
    def gate_dataset(self) -> str:
        """The data set whose test photos decide on promotion; the first prepared one by default."""
        return self.evaluate.gate_dataset or self.prepare.datasets[0]

    @model_validator(mode="after")
    def _evaluates_what_it_prepares_and_gates(self) -> Params:
        needed = {
            "the first of prepare.datasets": self.prepare.datasets[0],
            "evaluate.gate_dataset": self.gate_dataset,
        }
        for key, name in needed.items():
            if name not in self.evaluate.datasets:
                raise ValueError(f"evaluate.datasets must contain {key} ({name!r})")
        for name in self.distill.pool:
            if name not in self.prepare.datasets:
                raise ValueError(f"prepare.datasets must contain distill.pool ({name!r})")
            if name in self.evaluate.datasets:
                raise ValueError(f"evaluate.datasets has {name!r}, of distill.pool: it only trains")
        return self


def _complaint(error: ValidationError) -> str:
    """The first complaint of pydantic as `key: what`; a stray key before a missing one."""
    found = error.errors(include_url=False)
    for one in found:
        if one["type"] == "extra_forbidden" and one["loc"] == ("prepare", "dataset"):
            return f"prepare.dataset: is now a list, write `datasets: [{one['input']}]` instead"
    first = min(found, key=lambda one: one["type"] != "extra_forbidden")
    moved = [
        str(one["loc"][-1])
        for one in found
        if one["type"] == "extra_forbidden"
        and one["loc"][:-1] == ("distill",)
        and one["loc"][-1] in StudentParams.model_fields
    ]
    if moved:
        also = f", as did {', '.join(moved[1:])}" if moved[1:] else ""
        return f"distill.{moved[0]}: moved to distill.student.{moved[0]}{also}"
    key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
    if first["type"] == "extra_forbidden":
        *block, stray = map(str, first["loc"])
        near = get_close_matches(stray, _keys(block), 1)
        meant = ".".join([*block, near[0]]) if near else ""
        return f"{key}: unknown parameter" + (f", did you mean {meant}?" if meant else "")
    if first["type"] == "missing":
        return f"{key}: missing"
    value = first.get("input")
    shown = "" if isinstance(value, dict | BaseModel) else f", not {value!r}"
    return f"{key}: {first['msg'].removeprefix('Value error, ')}{shown}"


def _keys(block: list[str]) -> list[str]:
    """The keys that a block of params.yaml may have, by its place in the file."""
    model: type[BaseModel] = Params
    for name in block:
        fields = {field.alias or key: field for key, field in model.model_fields.items()}
        inner = fields[name].annotation
        model = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else Params
    return [field.alias or key for key, field in model.model_fields.items()]


def parse(values: Any, where: str = "params.yaml") -> Params:
    """Check a mapping of parameters; raises InputError naming the first wrong key."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise InputError(
            _complaint(error), where=where, hint="see the comments in the committed params.yaml"
        ) from None


def load(path: str | Path = "params.yaml") -> Params:
    """Read params.yaml; raises InputError for a missing, malformed or wrong file."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", where=str(path), hint=PROJECT_FOLDER) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"not valid YAML ({error})", where=str(path)) from None
    return parse(values, str(path))
