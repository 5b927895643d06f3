"""The training loop: AdamW, warm-up and cosine, a checkpoint after each epoch, exact resume.

Everything random in an epoch comes from the seed and the epoch's number, so a training that was
killed and started again ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.core.errors import ImlError, InputError
from components.core.metrics import THRESHOLD
from components.core.params import Distill
from components.core.seeds import derive
from components.core.sweep import Sweep, above, at_alarms, at_half, best
from components.distill.batches import Batch, count, epoch_batches
from components.distill.cache import Decoded
from components.distill.losses import distillation
from components.distill.parallel import ALONE, DistributedContext
from components.distill.progress import Epoch, Validation, Watcher
from components.distill.state import State, average, begin, finished, note, restore, store
from components.student.infer import BATCH, network
from components.student.model import Student

WARMUP = 0.05  # share of all steps


def train(
    student: Student,
    data: Decoded,
    params: Distill,
    folder: Path,
    watcher: Watcher,
    context: DistributedContext = ALONE,
) -> State:
    """Train in place, resuming from the newest intact checkpoint in `folder`.

    The student ends with the best epoch's weights, on the CPU.

    The best epoch is the one with the highest F1 on the validation photos' masks, of the kind that
    is learnt (true masks are not what the method has), less the false-alarm area on the authentic
    ones; then the lowest loss. Test photos are never seen.

    Raises:
        ImlError: the loss is not finite.
        InputError: every pseudo-mask of the validation photos is empty, or a batch has fewer
            photos than there are processes.
    """
    steps = count(len(data.train), params.batch)
    if len(data.train) // steps < context.size:
        raise InputError(
            f"{context.size} processes, but batches of {len(data.train) // steps} photos",
            where="distill",
            hint="raise distill.batch or start fewer processes",
        )
    state = begin(student.to(context.device), params)
    course = distillation_course(state, data, params, context)
    fit(state, course, params, data, folder, watcher, context)
    student.load_state_dict(state.best)
    student.cpu().eval()
    return state


@dataclass(frozen=True)
class Course:
    """What distinguishes one kind of training from another."""

    name: str  # for messages
    steps: int  # of the optimiser, in an epoch; the last one may have fewer
    total: int  # steps of all epochs together
    batches: Callable[[int], Iterable[Batch]]  # of an epoch, counted from 1
    learn: Callable[[Batch], float]  # one step of the optimiser; returns the batch's mean loss


def distillation_course(
    state: State, data: Decoded, params: Distill, context: DistributedContext = ALONE
) -> Course:
    """The student learns the training photos' pseudo-masks."""
    steps = count(len(data.train), params.batch)
    return Course(
        "distill",
        steps,
        params.epochs * steps,
        lambda epoch: epoch_batches(data, params, epoch, context),
        lambda batch: train_step(state.student, state.optimiser, batch, params, context),
    )


def fit(
    state: State,
    course: Course,
    params: Distill,
    data: Decoded,
    folder: Path,
    watcher: Watcher,
    context: DistributedContext = ALONE,
) -> None:
    """Train until `finished`, starting from the newest intact checkpoint in `folder`.

    `state` is that before the first epoch, and is moved on; each epoch is scored on the validation
    photos of `data`.

    Raises:
        ImlError: the loss is not finite.
        InputError: every pseudo-mask of the validation photos is empty.
    """
    restore(state, folder)
    context.share(state.student)
    watcher.start(len(state.history), params.epochs, course.steps)
    while not finished(state, params):
        epoch = len(state.history) + 1
        loss, rate = train_epoch(state, course, params, epoch, watcher)
        row = Epoch(epoch=epoch, train_loss=loss, **validate(state.mean, data, context), lr=rate)
        note(state, row)
        if context.leads:
            store(state, folder)
        watcher.epoch(row)


def train_epoch(
    state: State, course: Course, params: Distill, epoch: int, watcher: Watcher
) -> tuple[float, float]:
    """One pass over an epoch's batches: mean loss and the last learning rate."""
    torch.manual_seed(derive(params.seed, "epoch", epoch))  # for backbones that drop paths or units
    state.student.train()
    total, photos, rate = 0.0, 0, 0.0
    for step, batch in enumerate(course.batches(epoch)):
        done = (epoch - 1) * course.steps + step
        rate = pace(state, params, done, course.total)
        value = course.learn(batch)
        check_finite(value, f"the loss of epoch {epoch}, step {step + 1}", course.name)
        average(state, params.ema, done)
        total, photos = total + value * batch.whole, photos + batch.whole
        watcher.step(value)
    return total / photos, rate


def train_step(
    student: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    params: Distill,
    context: DistributedContext = ALONE,
) -> float:
    """One optimiser step; returns the whole batch's mean loss, finite or not."""
    device = context.device
    with torch.autocast(device.type, torch.bfloat16, enabled=params.amp):
        logits = student(batch.photos.to(device))
    each = distillation(
        logits.float(), batch.targets.to(device), batch.weights.to(device), params.loss
    )
    # Of all processes together, the mean over the whole batch.
    return descend(each.sum() / batch.whole, student, optimiser, context)


def descend(
    loss: Tensor,
    student: nn.Module,
    optimiser: torch.optim.Optimizer,
    context: DistributedContext = ALONE,
) -> float:
    """Follow the gradient of a loss, unless it is not finite; returns its sum over processes."""
    optimiser.zero_grad()
    loss.backward()
    context.sum_gradients(student)
    value = context.sum(loss.detach()).item()
    if math.isfinite(value):
        optimiser.step()
    return value


def check_finite(value: float, what: str, where: str) -> None:
    """Raise ImlError where a loss, or a trained student's answer, is not finite."""
    if not math.isfinite(value):
        raise ImlError(
            f"{what} is {value}",
            where=where,
            hint="lower the learning rate; earlier checkpoints are kept",
        )


def pace(state: State, params: Distill, step: int, steps: int) -> float:
    """Set the learning rates of a step; returns that of the new layers."""
    rate = params.learning_rate * schedule(step, steps)
    for group in state.optimiser.param_groups:
        group["lr"] = rate * group["share"]
    return rate


def schedule(step: int, steps: int) -> float:
    """Share of the full learning rate at a step: a short linear warm-up, then a cosine to 0."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@torch.inference_mode()
def validate(student: Student, data: Decoded, context: DistributedContext = ALONE) -> Validation:
    """Cross-entropy over all validation photos, F1 and false-alarm area over those of one kind.

    On pseudo-masks, photos predicted by the rule of inference, each photo counted once.

    Raises:
        ImlError: an answer that is not finite: the last step of an epoch can spoil the weights.
        InputError: every pseudo-mask of the validation photos is empty.
    """
    student.eval()
    own = data.val[context.rank :: context.size]
    loss, sweep = 0.0, Sweep()
    for start in range(0, len(own), BATCH):
        rows = own[start : start + BATCH]
        pairs = [data.photo(row) for row in rows]
        maps = network(student, [photo for photo, _ in pairs])
        for row, (_, mask), found in zip(rows, pairs, maps, strict=True):
            check_finite(float(found.sum()), "the student's answer to a photo", "validation")
            target = mask / np.float32(255)
            loss += F.binary_cross_entropy(torch.from_numpy(found), torch.from_numpy(target)).item()
            wanted = target > THRESHOLD
            if wanted.any() or not data.manipulated[row]:
                sweep.add(above(found, wanted))
    sums = torch.from_numpy(np.append(sweep.total()[0], loss)).to(context.device)
    *counts, loss = context.sum(sums).tolist()
    return _figures(np.array([counts]), loss / len(data.val))


def _figures(sums: np.ndarray, loss: float) -> Validation:
    """What the summed sweep of all processes says, with the mean cross-entropy."""
    fixed = at_half(sums)
    if np.isnan(fixed.f1):
        raise InputError(
            "every pseudo-mask of the validation photos is empty",
            where="distill",
            hint="look at the contact sheet of pseudo_label",
        )
    return Validation(
        val_loss=loss,
        val_f1=float(fixed.f1[0]),
        val_f1_best=float(best(sums).f1[0]),
        # Without authentic photos nothing is known of false alarms.
        val_f1_at_1_percent=float(np.nan_to_num(at_alarms(sums).f1[0])),
        val_false_alarm_area=float(np.nan_to_num(fixed.alarms[0])),
    )
