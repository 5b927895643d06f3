"""The training loop: AdamW, warm-up and cosine, a checkpoint after each epoch, exact resume.

Everything random in an epoch comes from the seed and the epoch's number, so a training that was
killed and started again ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from components.errors import ImlError, InputError
from components.params import Distill
from components.seeds import derive, generator
from components.student.infer import to_tensor
from components.student.model import Student
from components.training import checkpoint
from components.training.augment import augment
from components.training.cache import Decoded
from components.training.checkpoint import Checkpoint
from components.training.losses import pseudo_f1, soft_bce
from components.training.progress import Epoch, Watcher

WARMUP = 0.05  # share of all steps
_MODEL, _BEST, _OPTIMISER = "model.", "best.", "optimiser."


@dataclass(frozen=True)
class Trained:
    """A finished training; the student carries the best epoch's weights."""

    history: list[Epoch]
    best_epoch: int


@dataclass
class _State:
    """What a checkpoint holds."""

    student: Student
    optimiser: torch.optim.AdamW
    history: list[Epoch]
    best: dict[str, Tensor]
    best_epoch: int


def train(
    student: Student, data: Decoded, params: Distill, folder: Path, watcher: Watcher
) -> Trained:
    """Train in place, resuming from the newest intact checkpoint in `folder`.

    The best epoch is the one with the highest F1 on the validation photos' pseudo-masks (then the
    lowest loss): true masks are not what the method has, and test photos are never seen.

    Raises:
        ImlError: the loss is not finite.
        InputError: every pseudo-mask of the validation photos is empty.
    """
    state = _State(student, _optimiser(student, params), [], {}, 0)
    _restore(state, folder)
    batches = _batches(len(data.train), params.batch)
    watcher.start(len(state.history), params.epochs, batches)
    for epoch in range(len(state.history) + 1, params.epochs + 1):
        loss, rate = _train_epoch(state, data, params, epoch, watcher)
        val_loss, val_f1 = validate(student, data, params.batch)
        row = Epoch(epoch=epoch, train_loss=loss, val_loss=val_loss, val_f1=val_f1, lr=rate)
        state.history.append(row)
        if _better(row, state):
            state.best_epoch = epoch
            state.best = {name: value.clone() for name, value in student.state_dict().items()}
        _store(state, folder)
        watcher.epoch(row)
    student.load_state_dict(state.best)
    student.eval()
    return Trained(state.history, state.best_epoch)


def _better(row: Epoch, state: _State) -> bool:
    if not state.best_epoch:
        return True
    best = state.history[state.best_epoch - 1]
    return (row["val_f1"], -row["val_loss"]) > (best["val_f1"], -best["val_loss"])


def _train_epoch(
    state: _State, data: Decoded, params: Distill, epoch: int, watcher: Watcher
) -> tuple[float, float]:
    """One pass over the training photos: mean loss and the last learning rate."""
    torch.manual_seed(derive(params.seed, "epoch", epoch))  # for backbones that drop paths or units
    state.student.train()
    steps = _batches(len(data.train), params.batch)
    total, rate = 0.0, 0.0
    for step, (photos, targets) in enumerate(batches(data, params, epoch)):
        rate = params.learning_rate * schedule((epoch - 1) * steps + step, params.epochs * steps)
        for group in state.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        loss = soft_bce(state.student(photos), targets)
        value = loss.item()
        if not math.isfinite(value):
            raise ImlError(
                f"the loss became {value} in epoch {epoch}, step {step + 1}",
                where="distill",
                mend="lower distill.learning_rate; the epochs before are kept",
            )
        state.optimiser.zero_grad()
        loss.backward()
        state.optimiser.step()
        total += value * len(photos)
        watcher.step(value)
    return total / len(data.train), rate


def schedule(step: int, steps: int) -> float:
    """Share of the full learning rate at a step: a short linear warm-up, then a cosine to 0."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _batches(photos: int, batch: int) -> int:
    return -(-photos // batch)


def batches(data: Decoded, params: Distill, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """An epoch's batches: photos (B, 3, S, S) and targets (B, 1, S, S), float32 in [0, 1].

    Every photo comes once; sizes differ by at most one, so that no batch is too small for batch
    normalisation. The next batch is made while the current one is used.
    """
    order = generator(params.seed, "order", epoch).permutation(data.train)
    parts = np.array_split(order, _batches(len(order), params.batch))

    def make(rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """One batch of these rows."""
        photos, masks = data.photos[rows], data.masks[rows]
        if params.augment:
            for place, row in enumerate(rows):
                photos[place], masks[place] = augment(
                    photos[place], masks[place], params.seed, epoch, int(row)
                )
        return to_tensor(photos), to_tensor(masks[..., None])

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(make, parts[0])
        for rows in parts[1:]:
            ready, coming = coming, pool.submit(make, rows)
            yield ready.result()
        yield coming.result()


@torch.inference_mode()
def validate(student: Student, data: Decoded, batch: int) -> tuple[float, float]:
    """Loss over all validation photos and mean F1 over the manipulated ones, on pseudo-masks."""
    student.eval()
    losses, scores = [], []
    for start in range(0, len(data.val), batch):
        rows = data.val[start : start + batch]
        logits, targets = (
            student(to_tensor(data.photos[rows])),
            to_tensor(data.masks[rows][..., None]),
        )
        losses.append(soft_bce(logits, targets).item() * len(rows))
        scores.append(pseudo_f1(logits, targets))
    f1 = torch.cat(scores).nanmean().item()
    if math.isnan(f1):
        raise InputError(
            "every pseudo-mask of the validation photos is empty",
            where="distill",
            mend="look at the contact sheet of pseudo_label",
        )
    return sum(losses) / len(data.val), f1


def _optimiser(student: Student, params: Distill) -> torch.optim.AdamW:
    """AdamW in four groups: backbone or new layers, with weight decay or (vectors) without."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in student.named_parameters():
        share = params.backbone_rate if name.startswith("backbone.") else 1.0
        decay = params.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((share, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": members, "share": share, "weight_decay": decay}
            for (share, decay), members in groups.items()
        ],
        lr=params.learning_rate,
        fused=True,
    )


def _store(state: _State, folder: Path) -> None:
    tensors = {_MODEL + name: value for name, value in state.student.state_dict().items()}
    tensors |= {_BEST + name: value for name, value in state.best.items()}
    for index, values in state.optimiser.state_dict()["state"].items():
        tensors |= {f"{_OPTIMISER}{index}.{name}": value for name, value in values.items()}
    facts = {"history": state.history, "best_epoch": state.best_epoch}
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    checkpoint.save(folder, Checkpoint(len(state.history), tensors, facts))


def _restore(state: _State, folder: Path) -> None:
    """Fill everything from the newest intact checkpoint, if there is one."""
    found = checkpoint.newest(folder)
    if found is None:
        return

    def part(prefix: str) -> dict[str, Tensor]:
        """The tensors under a prefix, without it."""
        return {k.removeprefix(prefix): v for k, v in found.tensors.items() if k.startswith(prefix)}

    state.student.load_state_dict(part(_MODEL))
    state.best = part(_BEST)
    state.history = list(found.facts["history"])
    state.best_epoch = found.facts["best_epoch"]
    order = [value for group in state.optimiser.param_groups for value in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in part(_OPTIMISER).items():
        index, _, name = key.partition(".")
        if value.ndim:
            # The fused step walks memory: a moment must lie as its (channels-last) parameter does.
            value = torch.empty_like(order[int(index)], requires_grad=False).copy_(value)
        moments.setdefault(int(index), {})[name] = value
    empty = state.optimiser.state_dict()
    state.optimiser.load_state_dict({"state": moments, "param_groups": empty["param_groups"]})
