"""Two processes with half the batch each against one process, as `torchrun` starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from timm.layers import BatchNormAct2d

from components.core.errors import InputError
from components.distill import parallel
from components.distill.parallel import DistributedContext

ROOT = Path(__file__).parents[3]
TORCHRUN = Path(sys.executable).parent / "torchrun"

# Two training steps of a tiny student on fixed photos, each process on its share.
STEPS = """
import sys
import torch
from safetensors.torch import save_file
from components.core.params import Loss
from components.student.config import StudentConfig
from components.student.model import Student
from components.distill import parallel
from components.distill.batches import Batch
from components.distill.trainer import train_step

class Params:
    amp, loss = False, Loss(confidence=True, dice=1.0, boundary=0.0)

torch.manual_seed(0)
torch.set_num_threads(1)
config = StudentConfig(backbone="mobilenetv3_small_050", size=64, channels=8, prototypes=4,
                       alpha="learned", gates=True, dual_guidance=True, frontend="none",
                       view="resize", overlap=0.25, mean=(0.5,) * 3, std=(0.5,) * 3)
student = Student(config)
photos = torch.rand(6, 3, 64, 64)
targets = (torch.rand(6, 1, 64, 64) > 0.8).float()
weights = torch.linspace(0.5, 1.5, 6)
with parallel.context("cpu") as context:
    context.share(student.train())
    optimiser = torch.optim.SGD(student.parameters(), lr=0.1)
    losses = []
    for step in range(2):
        own = slice(context.rank, None, context.size)
        batch = Batch(photos[own], targets[own], weights[own], len(photos))
        losses.append(train_step(student, optimiser, batch, Params, context))
    if context.leads:
        state = {name: value.contiguous() for name, value in student.state_dict().items()}
        save_file(state | {"losses": torch.tensor(losses)}, sys.argv[1])
"""


def run(script: Path, out: Path, processes: int) -> dict[str, torch.Tensor]:
    command = [sys.executable] if processes == 1 else [str(TORCHRUN), "--standalone"]
    command += [] if processes == 1 else ["--nproc-per-node", str(processes)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(script), str(out)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(out)


def test_two_processes_follow_one(tmp_path):
    script = tmp_path / "steps.py"
    script.write_text(STEPS)
    one, two = (run(script, tmp_path / f"{n}.safetensors", n) for n in (1, 2))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=2e-5, msg=name)
    assert one["losses"][1] < one["losses"][0]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("norm", [torch.nn.BatchNorm2d, BatchNormAct2d])
def test_batch_norm_of_one_process_is_torchs(norm, kind, monkeypatch):
    """The arithmetic alone: with one process the sum over processes is the value itself."""
    monkeypatch.setattr(parallel, "_summed", lambda values: values)
    torch.manual_seed(0)
    norm, photos = norm(5), torch.randn(4, 5, 6, 7).to(kind)
    twin = type(norm)(5)
    twin.load_state_dict(norm.state_dict())
    for _ in range(2):
        expected = norm(photos)
        found = parallel._whole_batch_norm(twin, photos)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for name, value in norm.state_dict().items():
        torch.testing.assert_close(twin.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        parallel._whole_batch_norm(twin.eval(), photos), norm.eval()(photos), rtol=1e-4, atol=1e-5
    )


def test_alone_without_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with parallel.context("cpu") as context:
        assert context == DistributedContext(0, 1, torch.device("cpu"))
        assert context.leads
        norm = torch.nn.BatchNorm2d(3)
        context.share(norm)
        assert "forward" not in vars(norm)
        assert np.isclose(context.sum(torch.tensor(2.5)).item(), 2.5)


def test_missing_gpu_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with (
        pytest.raises(InputError, match=r"no CUDA device 0.*distill\.device: cpu"),
        parallel.context("cuda"),
    ):
        pass
