"""Backbones by timm name, and where their first weights come from.

Four scales at strides 4, 8, 16 and 32. `TESTED` ones are tested; any other timm network with these
strides that takes photos of any size builds the same way.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import huggingface_hub
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import FeatureInfo
from torch import Tensor, nn

from components.core.errors import InputError, UnavailableError
from components.core.files import sha256_file
from components.core.weights import lite0, lite0_path
from components.student.config import Triple

STRIDES = [4, 8, 16, 32]
BACKBONE_KEY, WEIGHTS_KEY = "distill.student.backbone", "distill.student.weights"
HUB_FILE = "model.safetensors"
PACKAGE_BACKBONE = "tf_efficientnet_lite0"
TESTED = (PACKAGE_BACKBONE, "mobilenetv3_large_100", "tiny_vit_5m_224")
NO_HUB = (
    f"`{WEIGHTS_KEY}: package` with backbone {PACKAGE_BACKBONE}, or a .safetensors path, "
    "needs no hub"
)


def _check_name(name: str) -> None:
    if not timm.is_model(name):
        raise InputError(
            f"timm has no network {name!r}",
            where=BACKBONE_KEY,
            hint=f"e.g. {PACKAGE_BACKBONE}, mobilenetv3_large_100 or tiny_vit_5m_224",
        )


def normalisation(name: str) -> tuple[Triple, Triple]:
    """Mean and std per channel that a network's ImageNet weights expect; InputError if unknown."""
    _check_name(name)
    config = timm.get_pretrained_cfg(name)
    mean = config.mean if config else IMAGENET_DEFAULT_MEAN
    std = config.std if config else IMAGENET_DEFAULT_STD
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def create(name: str) -> nn.Module:
    """A feature extractor: (B, 3, H, W) to four maps (B, C_i, H/4..H/32, W/4..W/32).

    Raises:
        InputError: unknown name, or a network without these four strides.
    """
    _check_name(name)
    try:
        network = timm.create_model(name, features_only=True, out_indices=(-4, -3, -2, -1))
        strides = list(_info(network).reduction())
    except (AttributeError, IndexError, TypeError, AssertionError):
        strides = []
    if strides != STRIDES:
        raise InputError(
            f"{name} has feature strides {strides}, the student needs {STRIDES}",
            where=BACKBONE_KEY,
        )
    return network


def _info(network: nn.Module) -> FeatureInfo:
    return cast(FeatureInfo, network.feature_info)


def widths(network: nn.Module) -> list[int]:
    """Channels of the four scales, finest first."""
    return list(_info(network).channels())


def load_weights(backbone: nn.Module, name: str, weights: str) -> None:
    """Fill a backbone made by `create(name)` in place.

    `weights` are `package` (ImageNet weights from pip), `hub` (timm's pretrained), `none` (left as
    it is) or the path of a `.safetensors` file with the state dict of timm's network, with or
    without its classifier.

    Raises:
        InputError: weights that are not there, not reachable or do not fit.
    """
    if weights == "none":
        return
    if weights == "package":
        state = _from_package(name)
    else:
        state = _from_file(_hub_file(name) if weights == "hub" else weights, name)
    fill(backbone, state, weights)


def weights_sha256(name: str, weights: str) -> str | None:
    """SHA-256 of the file that `load_weights` reads (InputError without it); None for `none`."""
    if weights == "none":
        return None
    if weights == "package":
        return sha256_file(lite0_path())
    path = _hub_file(name) if weights == "hub" else weights
    try:
        return sha256_file(path)
    except OSError as error:
        raise InputError(error.strerror or "unreadable", where=path, hint=NO_HUB) from None


def _hub_file(name: str) -> str:
    """The path of timm's pretrained weights in the hub's cache, downloaded if necessary."""
    config = timm.get_pretrained_cfg(name)
    repository = config.hf_hub_id if config else None
    if not repository:
        raise InputError(f"the model hub has no weights for {name}", where=WEIGHTS_KEY)
    path = huggingface_hub.try_to_load_from_cache(repository, HUB_FILE)
    if not isinstance(path, str):
        try:
            # One quick question first: the client itself retries for most of a minute.
            huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=10)
            path = huggingface_hub.hf_hub_download(repository, HUB_FILE)
        # No route, refused, offline switch, no such entry: which HTTP client (and so which errors)
        # the hub library uses differs by its version.
        except Exception as error:
            reason = str(error).strip().partition("\n")[0].partition(". ")[0]
            raise UnavailableError(
                f"no weights for {name} from the model hub ({reason})",
                where=WEIGHTS_KEY,
                hint=NO_HUB,
            ) from None
    return path


def _from_package(name: str) -> dict[str, Tensor]:
    """EfficientNet-Lite0's ImageNet weights from pip, under timm's names."""
    if name != PACKAGE_BACKBONE:
        raise InputError(
            f"`package` holds weights of {PACKAGE_BACKBONE}, not of {name}",
            where=WEIGHTS_KEY,
            hint="use hub, none or a .safetensors path with this backbone",
        )
    return lite0()


def _from_file(path: str, name: str) -> dict[str, Tensor]:
    """A safetensors file; names that timm's whole network does not have are refused."""
    state = read_file(path)
    with torch.device("meta"):
        whole = {_plain(key) for key in timm.create_model(name).state_dict()}
    strange = sorted(key for key in state if _plain(key) not in whole)
    if strange:
        raise InputError(f"{strange[0]!r} is not a parameter of {name}", where=path)
    return state


def read_file(path: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file; raises InputError for any other."""
    if Path(path).suffix != ".safetensors":
        raise InputError(
            f"{path!r} is none of package, hub, none or a .safetensors path",
            where=WEIGHTS_KEY,
        )
    try:
        return load_file(path)
    except FileNotFoundError:
        raise InputError("no such file", where=path, hint=NO_HUB) from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"not a safetensors file ({error})", where=path) from None


def _plain(key: str) -> str:
    """A feature list of timm has `stages_0.` where the whole network has `stages.0.`."""
    return re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", key)


def fill(network: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Copy every parameter and buffer by name; raises InputError for a missing or unfit one."""
    plain = {_plain(key): value for key, value in state.items()}
    chosen = {}
    for key, own in network.state_dict().items():
        value = plain.get(_plain(key))
        if value is None:
            raise InputError(f"{_plain(key)!r} is missing in these weights", where=where)
        if value.shape != own.shape:
            raise InputError(
                f"{_plain(key)!r} has shape {tuple(value.shape)}, expected {tuple(own.shape)}",
                where=where,
            )
        chosen[key] = value
    network.load_state_dict(chosen, strict=True)
