"""Teachers are found, not listed; what a teacher says of itself is true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from edits import behind
from pseudo_label_support import settings

from components.core.errors import InputError
from components.pseudo_label.registry import SHARED, build, get, specs

ROOT = Path(__file__).parents[3]
# Behind every teacher, but not in its masks: it finds, loads, checks or stores. What they do to
# pixels has an entry of its own in the key: `images` the decoder's.
PLUMBING = {
    *(f"components.core.{name}" for name in ("code", "errors", "files", "images", "params")),
    *(f"components.core.{name}" for name in ("paths", "progress", "weights")),
    *(f"components.pseudo_label.{name}" for name in ("cache", "checkpoints", "hub", "registry")),
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("components", cache_dir=None)


@pytest.mark.parametrize("name", [*specs(), f"hf:lab/model@{'0' * 40}"])
def test_a_key_covers_every_module_behind_the_masks(name: str, graph: grimp.ImportGraph) -> None:
    spec = get(name)
    keyed = {*SHARED, *spec.modules}
    assert behind(graph, *keyed) - PLUMBING == keyed
    family = spec.modules[0].split(".")[:4]
    others = {m for m in keyed if ".teachers." in m and m.split(".")[:4] != family}
    assert not others


def test_teachers_are_listed_without_heavy_libraries() -> None:
    code = (
        "import sys; from flows.cli.weights import _teachers; rows = _teachers();"
        "from components.pseudo_label.registry import build; from components.core import params;"
        "block = params.load().pseudo_label;"
        "[build(block.model_copy(update={'teacher': name})) for name in ('box', 'grabcut')];"
        "heavy = {'torch', 'torchvision', 'timm', 'segment_anything', 'transformers'};"
        "heavy &= set(sys.modules);"
        "sys.exit(f'{len(rows)} rows, {sorted(heavy)}' if heavy or not rows else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("typed", "meant"), [("sam_light", "sam_lite"), ("vith", "vit_h"), ("grab_cut", "grabcut")]
)
def test_a_typo_is_answered(typed: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"did you mean {meant}\\?") as caught:
        build(settings(teacher=typed))
    assert ", ".join(specs()) in caught.value.hint
