"""Several processes that train one student as one process would: `torchrun`'s side of things.

    torchrun --nproc-per-node 2 -m components.distill

Each process takes its share of every batch. Gradients and batch statistics are those of the whole
batch, so the result is that of one process but for the order of float sums. Only the leader writes;
all read `IML_STATE`, which on several machines must be a shared folder.
"""

from __future__ import annotations

import os
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from components.core.errors import InputError


@dataclass(frozen=True)
class DistributedContext:
    """The processes of a training, and which of them this one is."""

    rank: int  # from 0; 0 leads
    size: int  # number of processes
    device: torch.device  # where this one computes

    @property
    def leads(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes of a tensor on this process's device."""
        return _summed(values) if self.size > 1 else values

    def share(self, student: nn.Module) -> None:
        """Let its batch norms see the whole batch from now on, not one process's part."""
        for module in student.modules() if self.size > 1 else ():
            if isinstance(module, nn.BatchNorm2d):
                module.forward = types.MethodType(_whole_batch_norm, module)  # type: ignore[method-assign]

    def sum_gradients(self, student: nn.Module) -> None:
        """Replace each gradient by its sum over all processes, in one exchange."""
        if self.size == 1:
            return
        gradients = [p.grad for p in student.parameters() if p.grad is not None]
        whole = _summed(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        parts = whole.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; so is the gradient of the sum of their losses."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _summed(values.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Every process's result took part in every process's loss."""
        return _summed(gradient.contiguous().clone())


def _summed(values: Tensor) -> Tensor:
    """Sum over all processes, in place."""
    dist.all_reduce(values)
    return values


ALONE = DistributedContext(0, 1, torch.device("cpu"))


@contextmanager
def context(device: str) -> Iterator[DistributedContext]:
    """Join the processes that `torchrun` started; a process started without it is alone.

    On `cuda` several processes of one machine take a GPU each; InputError where there are too few.
    """
    place = torch.device(device)
    if device == "cuda":
        number = int(os.environ.get("LOCAL_RANK", "0"))
        if number >= torch.cuda.device_count():
            raise InputError(
                f"no CUDA device {number} on this machine",
                where="distill.device",
                hint="set distill.device: cpu",
            )
        place = torch.device("cuda", number)
        torch.cuda.set_device(place)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield DistributedContext(0, 1, place)
        return
    # Long, because the others wait while the first one decodes; torchrun ends all where one dies.
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=timedelta(days=1))
    try:
        yield DistributedContext(dist.get_rank(), dist.get_world_size(), place)
    finally:
        dist.destroy_process_group()


def _whole_batch_norm(norm: Any, photos: Tensor) -> Tensor:
    """Forward of a BatchNorm2d (or timm's, with its activation) over all processes' photos.

    torch's own SyncBatchNorm works on GPUs only.
    """
    if not norm.training:
        return type(norm).forward(norm, photos)
    kind, axes = photos.dtype, (0, 2, 3)
    photos = photos.float()  # sums in bfloat16 would be off by more than their order
    count = _Sum.apply(photos.new_tensor([photos.numel() / photos.shape[1]]))
    mean = _Sum.apply(photos.sum(axes)) / count
    centred = photos - mean[:, None, None]
    variance = _Sum.apply(centred.square().sum(axes)) / count
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    normal = centred * scale[:, None, None] + norm.bias[:, None, None]
    for name in ("drop", "act"):  # timm's norm carries them
        normal = getattr(norm, name)(normal) if hasattr(norm, name) else normal
    return normal.to(kind)
