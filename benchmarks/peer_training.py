"""What a published network learns from the student's photos, with true masks, in a given time.

Photos, splits, views and metrics are the student's; loss, optimiser, learning rate and
normalisation are those of the package's training scripts. The ImageNet weights that these start
from are on hubs alone, so every peer starts from random ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torchvision.transforms.functional import normalize

from benchmarks.peers import networks
from benchmarks.student import gmac
from components.core.params import Distill, Params
from components.core.paths import DATA, DISTILL_CACHE, PREPARED, PSEUDO_LABELED, state_dir
from components.core.seeds import fix_torch, hold_memory
from components.data import manifest
from components.distill.batches import Batch, epoch_batches
from components.distill.cache import decoded
from components.distill.examples import collect
from components.distill.trainer import check_finite, schedule
from components.evaluate.__main__ import photos
from components.evaluate.run import Predict, evaluate
from components.student.infer import BATCH, enlarge, shrink, to_tensor
from components.student.tiles import answers

SIZES = {"SparseViT": 256, "PSCC_Net": 192}  # pixels a side; less than published, for more steps
_RATES = {"SparseViT": 2e-4, "PSCC_Net": 1e-4}
_PHOTOS, _DECAY = 8, 0.05  # of a batch
_CHECKS = 2  # on the validation photos, at equal distances; the last one at the end
_METRICS = ("f1", "f1_best", "f1_at_1_percent", "false_alarm_area", "auc", "image_auc")


def bench_peer(folder: Path, name: str, minutes: float, settings: Params) -> dict[str, Any]:
    """Train a peer on what `prepare` wrote, and score it on `evaluate.datasets`.

    Args:
        folder: as `benchmarks.peers` wants it.
        name: one of `SIZES`.
        minutes: of one core's time for training; validation comes on top.
        settings: the student's.

    Returns:
        `size`, `parameters`, `gmac` at that size, `views`, `steps`, `checks` (F1 on the validation
        photos, whose best state is kept) and by data set its metrics, `f1_copy_move` among them.

    Raises:
        InputError: a folder without the peer, or unusable data.
        ImlError: the loss is not finite.
    """
    size = SIZES[name]
    student = settings.distill.student.model_copy(update={"size": size, "view": "resize"})
    params = settings.distill.model_copy(
        update={"student": student, "supervision": "masks", "batch": _PHOTOS}
    )
    fix_torch(params.seed, params.threads)
    hold_memory()
    prepared = manifest.read(PREPARED)
    network = networks(folder, {name: size})[name]
    predict = _predictor(network, size)
    held = prepared.select("val").images

    def check() -> float:
        """F1 on the validation photos' true masks."""
        return float(evaluate(predict, held, DATA, settings.evaluate).metrics["f1"]["value"])

    found = {
        "size": size,
        "parameters": sum(value.numel() for value in network.parameters()),
        "gmac": _gmac(network, size),
        **_train(network, _batches(params), _RATES[name], 60 * minutes, check),
    }
    for dataset in settings.evaluate.datasets:
        rows, _ = photos(dataset, settings)
        root = DATA if dataset in settings.prepare.datasets else DATA / dataset
        metrics = evaluate(predict, rows.images, root, settings.evaluate).metrics
        copied = metrics["slices"]["method"].get("copy-move", {}).get("f1")
        found[dataset] = {part: metrics[part] for part in _METRICS} | {"f1_copy_move": copied}
    return found


def _batches(params: Distill) -> Iterator[Batch]:
    """The student's views for as long as anybody wants them."""
    examples = collect(manifest.read(PREPARED), DATA, PSEUDO_LABELED, params)
    data = decoded(examples, params, state_dir() / DISTILL_CACHE / "data")
    return chain.from_iterable(epoch_batches(data, params, epoch) for epoch in count(1))


def _train(
    network: nn.Module,
    batches: Iterator[Batch],
    rate: float,
    seconds: float,
    check: Callable[[], float],
) -> dict[str, Any]:
    """Train for so long, checks left out; the network ends with the state of its best check."""
    optimiser = create_optimizer_v2(network, "adamw", lr=rate, weight_decay=_DECAY)
    views, spent, kept = 0, 0.0, {}
    checks: list[float] = []
    then = time.process_time()
    for step, batch in enumerate(batches, start=1):
        for group in optimiser.param_groups:
            group["lr"] = rate * schedule(round(1000 * spent / seconds), 1000)
        network.train()
        with torch.autocast("cpu", torch.bfloat16):  # more than one and a half times the steps
            loss = _answer(network, batch.photos, (batch.targets > 0.5).float())["backward_loss"]
        check_finite(loss.item(), f"the loss of step {step}", "peers")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        views += len(batch.photos)
        spent += time.process_time() - then
        if spent >= seconds * (len(checks) + 1) / _CHECKS:
            checks.append(check())
            if checks[-1] >= max(checks):
                kept = {name: value.clone() for name, value in network.state_dict().items()}
        if len(checks) == _CHECKS:
            break
        then = time.process_time()
    network.load_state_dict(kept)
    return {"views": views, "steps": step, "checks": checks}


def _answer(network: nn.Module, photos: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """What a peer says of photos in [0, 1]: its probabilities, and its loss against the masks."""
    given = normalize(photos, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    found: dict[str, Tensor] = network(image=given, mask=masks, label=masks.amax((1, 2, 3)))
    return found


def _predictor(network: nn.Module, size: int) -> Predict:
    """A peer asked as the student is: the whole photo in one square, the answer at its own size."""

    @torch.inference_mode()
    def squares(batch: np.ndarray) -> np.ndarray:
        network.eval()
        given = to_tensor(batch)
        return _answer(network, given, torch.zeros_like(given[:, :1]))["pred_mask"][:, 0].numpy()

    def native(square: np.ndarray, height: int, width: int) -> np.ndarray:
        return enlarge(torch.from_numpy(square), height, width)

    def predict(photos: Sequence[np.ndarray]) -> list[np.ndarray]:
        return answers(photos, size, None, squares, shrink, native, BATCH)

    return predict


@torch.inference_mode()
def _gmac(network: nn.Module, size: int) -> float:
    photo, mask = torch.rand(1, 3, size, size), torch.zeros(1, 1, size, size)
    return gmac(partial(_answer, network.eval(), photo, mask))
