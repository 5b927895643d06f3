"""What a student is made of: the JSON beside its weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.core.params import Network, Share

Triple = tuple[float, float, float]


class StudentConfig(Network):
    """With the weights, everything that loading a student needs: its network and what it learnt.

    Attributes:
        format: version of this file.
        mean: per channel, subtracted from photos in [0, 1].
        std: per channel, divides them afterwards.
        temperature: divides the logits; fitted on validation photos, 1 where it was not.
        image_threshold: image scores above it speak of a manipulated photo; set on validation
            photos, None where they were of one class only or not used.
    """

    format: Literal[1] = 1
    mean: Triple
    std: Triple
    temperature: Annotated[float, Field(gt=0)] = 1.0
    image_threshold: Share | None = None
