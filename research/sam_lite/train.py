"""Training of `sam_lite`: deterministic, resumable after a kill at any point."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from components.core.errors import InputError
from components.core.files import atomic, sha256_json
from components.core.progress import Progress
from components.core.seeds import fix_torch, hold_memory
from components.pseudo_label.teachers.sam_lite.network import SamLite
from research.sam_lite.batches import stream
from research.sam_lite.losses import candidate_loss
from research.sam_lite.sources import Sources

_LATER = ("steps", "size", "cool")  # decide nothing before the cool-down
CHECKPOINT, WEIGHTS, HISTORY = "checkpoint.safetensors", "sam_lite.safetensors", "history.csv"


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the weights, besides the sources.

    Attributes:
        seed: of the first weights and of the pairs.
        steps: of the optimizer.
        batch: pairs a step.
        small, size: side of the crops before and during the cool-down.
        cool: share of the steps, the last ones, in which the learning rate falls to nothing.
        rate, trunk_rate: peak learning rates of AdamW for what is new and for the trunk.
        shares: how often each kind of pair is made.
        ema: decay of the averaged weights, which are what is kept.
        threads: of torch; they change float sums.
        workers: threads that make pairs; they change nothing.
        save_seconds: time between checkpoints.
    """

    seed: int = 7
    steps: int = 6000
    batch: int = 16
    small: int = 128
    size: int = 160
    cool: float = 0.3
    rate: float = 8e-4
    trunk_rate: float = 2e-4
    weight_decay: float = 0.01
    warmup: int = 100
    ema: float = 0.998
    clip: float = 1.0
    threads: int = 2
    workers: int = 1
    save_seconds: float = 180.0
    shares: dict[str, float] = field(
        default_factory=lambda: {
            "object": 0.42,
            "geometric": 0.28,
            "free-form": 0.15,
            "silhouette": 0.15,
        }
    )

    def turn(self) -> int:
        """The step at which the cool-down begins; until then `steps` decides nothing."""
        return round((1 - self.cool) * self.steps)

    def later(self) -> dict[str, float]:
        """What may still change before the cool-down."""
        return {name: getattr(self, name) for name in _LATER}

    def sizes(self) -> list[int]:
        """The crop's side at every step."""
        turn = self.turn()
        return [self.small if step < turn else self.size for step in range(self.steps)]

    def identity(self, sources: Sources, first: dict[str, Tensor] | None) -> str:
        """SHA-256 of what decides the weights until the cool-down: other runs are refused."""
        values = asdict(self)
        for apart in ("workers", "save_seconds", *_LATER):
            values.pop(apart)
        sums = {k: float(v.double().sum()) for k, v in (first or {}).items()}
        return sha256_json({"config": values, "sources": sources.digest, "first": sums})


class _Run:
    """Network, averaged network, optimizer and the step they stand at."""

    def __init__(self, config: TrainConfig, network: SamLite, device: str) -> None:
        self.config, self.network, self.step = config, network, 0
        named = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
        trunk = [(n, p) for n, p in named if n.startswith("trunk.")]
        rest = [(n, p) for n, p in named if not n.startswith("trunk.")]
        self.names = [n for n, _ in trunk + rest]
        self.parameters = [p for _, p in trunk + rest]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for _, p in trunk], "peak": config.trunk_rate},
                {"params": [p for _, p in rest], "peak": config.rate},
            ],
            lr=config.rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.average = [p.detach().clone() for p in self.parameters]
        self.device = device

    def learn(self, batch: list[Tensor]) -> tuple[float, float]:
        """One step; returns loss and mean IoU of the best candidate."""
        crops, boxes, masks, valid = (part.to(self.device) for part in batch)
        self.network.set_size(crops.shape[1])
        share = _schedule(self.step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        logits, predicted = self.network(crops.permute(0, 3, 1, 2).float(), boxes)
        loss, iou = candidate_loss(logits, predicted, masks, valid)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        self.optimizer.step()
        self.step += 1
        decay = min(self.config.ema, self.step / (self.step + 10))
        torch._foreach_lerp_(self.average, list[Tensor](self.parameters), 1 - decay)
        return float(loss.detach()), float(iou.max(dim=1).values.mean())

    def averaged(self) -> dict[str, Tensor]:
        """The network's state with the averaged weights in it."""
        state = {k: v.detach().cpu().contiguous() for k, v in self.network.state_dict().items()}
        state |= {n: a.cpu().contiguous() for n, a in zip(self.names, self.average, strict=True)}
        return state

    def save(self, folder: Path, identity: str) -> None:
        """Write checkpoint and averaged weights, each atomically."""
        tensors = {f"now.{n}": p.detach() for n, p in zip(self.names, self.parameters, strict=True)}
        tensors |= {f"average.{n}": a for n, a in zip(self.names, self.average, strict=True)}
        for name, parameter in zip(self.names, self.parameters, strict=True):
            moments = self.optimizer.state[parameter]
            tensors[f"first.{name}"] = moments["exp_avg"]
            tensors[f"second.{name}"] = moments["exp_avg_sq"]
        later = json.dumps(self.config.later())
        facts = {"step": str(self.step), "later": later, "identity": identity}
        ready = {k: v.cpu().contiguous() for k, v in tensors.items()}
        with atomic(folder / CHECKPOINT) as path:
            save_file(ready, path, metadata=facts)
        with atomic(folder / WEIGHTS) as path:
            save_file(self.averaged(), path)

    def resume(self, folder: Path, identity: str) -> None:
        """Go on from a checkpoint, where there is one of this very run."""
        path = folder / CHECKPOINT
        if not path.exists():
            return
        with safe_open(path, "pt", device=self.device) as file:
            facts = file.metadata() or {}
            if facts.get("identity") != identity:
                raise InputError(
                    "this checkpoint belongs to other sources or another configuration",
                    where=str(path),
                    hint="train into another folder, or remove it",
                )
            self.step = int(facts["step"])
            before = replace(self.config, **json.loads(facts["later"]))
            turn = min(self.config.turn(), before.turn())
            if self.step > turn and before.later() != self.config.later():
                raise InputError(
                    f"at step {self.step} it is too late for other {', '.join(_LATER)}",
                    where=str(path),
                    hint=f"continue with {before.later()}, or train into another folder",
                )
            for index, (name, parameter) in enumerate(
                zip(self.names, self.parameters, strict=True)
            ):
                parameter.data.copy_(file.get_tensor(f"now.{name}"))
                self.average[index] = file.get_tensor(f"average.{name}")
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(self.step)),
                    "exp_avg": torch.empty_like(parameter).copy_(file.get_tensor(f"first.{name}")),
                    "exp_avg_sq": torch.empty_like(parameter).copy_(
                        file.get_tensor(f"second.{name}")
                    ),
                }


def _schedule(step: int, config: TrainConfig) -> float:
    """Warm up, stay, cool down as 1 - sqrt (Hägele et al. 2024)."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    cooled = (step - config.turn()) / max(1, config.steps - config.turn())
    return 1 - math.sqrt(cooled) if cooled > 0 else 1.0


def train(
    config: TrainConfig,
    sources: Sources,
    first: dict[str, Tensor] | None,
    out: Path,
    progress: Progress | None = None,
    fine_tune: dict[str, Tensor] | None = None,
) -> Path:
    """Train, or go on training, and return the path of the averaged weights.

    Args:
        config: see `TrainConfig`.
        sources: what pairs are made from.
        first: ImageNet weights of the trunk under timm's names, or None for random ones.
        out: folder of checkpoint, weights and history; a killed run started again goes on there,
            if need be with other `steps`, `size` or `cool` while the cool-down has not begun.
        progress: called with (steps done, steps) after every step.
        fine_tune: weights of a trained `SamLite` to start from instead.

    Raises:
        InputError: `out` holds the checkpoint of another run.
    """
    fix_torch(config.seed, config.threads)
    hold_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = SamLite(config.size, first)
    if fine_tune is not None:
        network.load_state_dict(fine_tune, strict=True)
    network = network.to(device).to(memory_format=torch.channels_last)
    run = _Run(config, network, device)
    identity = config.identity(sources, fine_tune or first)
    out.mkdir(parents=True, exist_ok=True)
    run.resume(out, identity)
    if run.step == 0:
        (out / HISTORY).write_text("step,seconds,loss,best_iou\n", encoding="utf-8")
        (out / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    _loop(run, sources, out, identity, progress)
    run.save(out, identity)
    return out / WEIGHTS


def _loop(run: _Run, sources: Sources, out: Path, identity: str, progress: Progress | None) -> None:
    config = run.config
    batches = stream(
        sources, config.shares, config.seed, config.batch, config.sizes(), run.step, config.workers
    )
    begun = saved = time.monotonic()
    sums, since = [0.0, 0.0], 0
    for batch in batches:
        loss, iou = run.learn(batch)
        sums, since = [sums[0] + loss, sums[1] + iou], since + 1
        if progress:
            progress(run.step, config.steps)
        if since == 50 or run.step == config.steps:
            with open(out / HISTORY, "a", encoding="utf-8") as file:
                means = f"{sums[0] / since:.4f},{sums[1] / since:.4f}"
                file.write(f"{run.step},{time.monotonic() - begun:.0f},{means}\n")
            sums, since = [0.0, 0.0], 0
        if time.monotonic() - saved > config.save_seconds:
            run.save(out, identity)
            saved = time.monotonic()
