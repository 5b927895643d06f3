"""What a training is after some epochs: weights, their running mean, the best so far, optimiser.

`store` and `restore` pass it through a checkpoint exactly.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from components.core.params import Distill
from components.distill import checkpoint
from components.distill.checkpoint import Checkpoint
from components.distill.progress import Epoch
from components.student.model import Student

_MODEL, _MEAN, _BEST, _OPTIMISER = "model.", "mean.", "best.", "optimiser."


@dataclass
class State:
    """What a checkpoint holds."""

    student: Student  # as the optimiser moves it
    # The running mean of its weights, which is validated and kept; the student itself where there
    # is none
    mean: Student
    optimiser: torch.optim.AdamW  # of the student
    history: list[Epoch]  # finished epochs
    best: dict[str, Tensor]  # tensors of the best epoch's mean
    best_epoch: int  # from 1; 0 before the first


def begin(student: Student, params: Distill) -> State:
    """The state before the first epoch; the student is on its device."""
    mean = copy.deepcopy(student).requires_grad_(False) if params.ema else student
    return State(student, mean, _optimiser(student, params), [], {}, 0)


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


@torch.no_grad()
def average(state: State, decay: float, step: int) -> None:
    """Move the running mean towards the student after optimiser step `step` (from 0).

    The first steps count more, (1 + step) / (10 + step) at most, or the untrained weights would
    linger in short trainings.
    """
    if state.mean is state.student:
        return
    decay = min(decay, (1 + step) / (10 + step))
    own = state.student.state_dict()
    for name, value in state.mean.state_dict().items():
        if value.is_floating_point():
            value.lerp_(own[name], 1 - decay)
        else:
            value.copy_(own[name])


def note(state: State, row: Epoch) -> None:
    """Add a finished epoch; keep its weights where it is the best so far."""
    state.history.append(row)
    if not state.best_epoch or _value(row) > _value(state.history[state.best_epoch - 1]):
        state.best_epoch = row["epoch"]
        state.best = {name: value.clone() for name, value in state.mean.state_dict().items()}


def _value(row: Epoch) -> tuple[float, float]:
    """F1 less false alarms, then the loss: F1 alone would keep whatever answers most boldly."""
    return row["val_f1"] - row["val_false_alarm_area"], -row["val_loss"]


def finished(state: State, params: Distill) -> bool:
    """Whether all epochs are done, or `patience` of them passed without a better one."""
    done = len(state.history)
    waited = done - state.best_epoch
    return done >= params.epochs or bool(params.patience and waited >= params.patience)


def store(state: State, folder: Path) -> None:
    """Write a checkpoint of it."""
    parts = {_MODEL: state.student.state_dict(), _BEST: state.best}
    if state.mean is not state.student:
        parts[_MEAN] = state.mean.state_dict()
    for index, values in state.optimiser.state_dict()["state"].items():
        parts[f"{_OPTIMISER}{index}."] = values
    tensors = {
        prefix + name: value.contiguous()
        for prefix, part in parts.items()
        for name, value in part.items()
    }
    facts = {"history": state.history, "best_epoch": state.best_epoch}
    checkpoint.save(folder, Checkpoint(len(state.history), tensors, facts))


def restore(state: State, folder: Path) -> None:
    """Fill everything from the newest intact checkpoint, if there is one."""
    found = checkpoint.newest(folder)
    if found is None:
        return

    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in found.tensors.items() if k.startswith(prefix)}

    state.student.load_state_dict(part(_MODEL))
    if state.mean is not state.student:
        state.mean.load_state_dict(part(_MEAN))
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
