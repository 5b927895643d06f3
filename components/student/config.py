"""What a student is made of: the JSON beside its weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Triple = tuple[float, float, float]


class StudentConfig(BaseModel):
    """Architecture of a student; with the weights it is everything `build` needs.

    Attributes:
        format: version of this file.
        backbone: timm name.
        size: side in pixels of the square the student was trained on and `infer` resizes to.
        channels: width of the fused grid.
        prototypes: size of the memory bank; 0 means no memory.
        alpha: weight of the real-time observation, `learned` or fixed.
        gates: whether each scale is gated before the sum.
        dual_guidance: whether the mean gate weighs the real-time observation.
        frontend: what the backbone sees beside the photo's colours.
        view: how photos of other sizes are shown to the network (see `infer`).
        overlap: of neighbouring tiles, share of their side.
        mean: per channel, subtracted from photos in [0, 1].
        std: per channel, divides them afterwards.
        temperature: divides the logits; fitted on validation photos, 1 where it was not.
        image_threshold: image scores above it speak of a manipulated photo; set on validation
            photos, None where they were of one class only or not used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    format: Literal[1] = 1
    backbone: str
    size: Annotated[int, Field(ge=32, le=4096, multiple_of=32)]
    channels: Annotated[int, Field(ge=1, le=4096)]
    prototypes: Annotated[int, Field(ge=0, le=65536)]
    alpha: Literal["learned"] | Annotated[float, Field(ge=0, le=1)]
    gates: bool = True
    dual_guidance: bool = True
    frontend: Literal["none", "highpass"] = "none"
    view: Literal["resize", "tiles"] = "resize"
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.25
    mean: Triple
    std: Triple
    temperature: Annotated[float, Field(gt=0)] = 1.0
    image_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
