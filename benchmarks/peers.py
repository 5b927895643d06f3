"""Published networks to compare the student with, from an `imdlbenco` package beside ours.

Its pins do not fit ours, so it lies in a folder of its own, without its dependencies:

    pip install --no-deps --target FOLDER imdlbenco yacs
"""

from __future__ import annotations

import importlib
import io
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import model_zoo

from components.core.errors import InputError

INSTALL = "pip install --no-deps --target FOLDER imdlbenco yacs"
_PACKAGE = "IMDLBenCo"
# Class to module below the package's model zoo, and arguments beside the side of the photo.
_PEERS: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    "SparseViT": ("sparse_vit.sparse_vit", lambda size: {"img_size": size, **_sparse(size)}),
    "MVSSNet": ("mvss_net.mvssnet", lambda size: {}),
    "PSCC_Net": ("pscc_net.pscc_net", lambda size: {"input_size": size, "pretrain_path": ""}),
}


def _sparse(size: int) -> dict[str, list[int]]:
    """SparseViT's attention grids as shares of the photo, which are published for 512 pixels."""
    parts = {"s_blocks3": (8, 4, 2, 1), "s_blocks4": (2, 1)}
    return {name: [512 * part // size for part in given] for name, given in parts.items()}


def peers(folder: Path, size: int) -> dict[str, Callable[[], object]]:
    """What runs each peer once on one photo of `size` a side, with random weights, as published.

    Their forward passes end with their losses, which cost next to nothing beside the rest.

    Raises:
        InputError: as `networks`.
    """
    made = networks(folder, dict.fromkeys(_PEERS, size))
    return {name: _run(network.eval(), size) for name, network in made.items()}


def networks(folder: Path, sizes: Mapping[str, int]) -> dict[str, nn.Module]:
    """Peers by name, each for photos of so many pixels a side, with random weights.

    Raises:
        InputError: the folder does not hold the package, or it does not load.
    """
    if not (folder / _PACKAGE).is_dir():
        raise InputError(f"no {_PACKAGE} in this folder", where=str(folder), hint=INSTALL)
    with _importable(folder):
        try:
            made = {}
            for name, size in sizes.items():
                module, arguments = _PEERS[name]
                found = importlib.import_module(f"{_PACKAGE}.model_zoo.{module}")
                made[name] = getattr(found, name)(**arguments(size))
            return made
        except (ImportError, AttributeError, TypeError) as error:
            raise InputError(
                f"this version does not load ({error})", where=str(folder), hint=INSTALL
            ) from None


def _run(network: nn.Module, size: int) -> Callable[[], object]:
    photo, mask = torch.rand(1, 3, size, size), torch.zeros(1, 1, size, size)
    given = {"mask": mask, "edge_mask": mask, "label": torch.zeros(1)}
    return lambda: network(image=photo, **given)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Import from the folder for a while, past the package's start, which imports every model.

    Nothing is downloaded: MVSS-Net fetches weights of its trunk when it is made, and gets none.
    """
    before, load = set(sys.modules), model_zoo.load_url
    sys.path.append(str(folder))
    try:
        for name in (_PACKAGE, f"{_PACKAGE}.model_zoo"):
            package = types.ModuleType(name)
            package.__path__ = [str(folder.joinpath(*name.split(".")))]
            sys.modules[name] = package
        model_zoo.load_url = lambda *_, **__: {}
        # What they say while they load belongs to no report.
        with redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        model_zoo.load_url = load
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if name.split(".")[0] in (_PACKAGE, "yacs"):
                del sys.modules[name]
