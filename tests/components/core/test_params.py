"""params.yaml: strict types, no unknown keys, complaints of one line that name the key."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core import params
from components.core.errors import InputError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def committed() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def test_the_committed_file_is_valid(committed: dict[str, Any]) -> None:
    loaded = params.load(ROOT / "params.yaml")
    assert loaded.prepare.datasets == committed["prepare"]["datasets"]
    assert loaded.validate_.min_side == committed["validate"]["min_side"]


def test_the_prepared_data_set_decides_unless_another_is_named(committed: dict[str, Any]) -> None:
    assert params.parse(committed).gate_dataset == committed["prepare"]["datasets"][0]
    del committed["evaluate"]["gate_dataset"]  # a file from before it could be named
    assert params.parse(committed).gate_dataset == committed["prepare"]["datasets"][0]
    committed["evaluate"] |= {"datasets": ["demo", "other"], "gate_dataset": "other"}
    assert params.parse(committed).gate_dataset == "other"


def test_parameters_are_frozen(committed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="frozen"):
        params.parse(committed).prepare.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("prepare.seed", "7", "prepare.seed"),
        ("prepare.seed", -1, "prepare.seed"),
        ("prepare.datasets", ["../x"], "prepare.datasets.0"),
        ("prepare.datasets", [], "prepare.datasets"),
        ("prepare.datasets", ["demo", "demo"], "prepare.datasets: demo is there twice"),
        ("prepare.dataset", "mine", "prepare.dataset: is now a list, write `datasets: [mine]`"),
        ("distill.pool", ["other"], "prepare.datasets must contain distill.pool ('other')"),
        ("distill.pool", ["demo"], "evaluate.datasets has 'demo', of distill.pool"),
        ("distill.pool_share", 1.0, "distill.pool_share"),
        ("prepare.jitter", float("nan"), "prepare.jitter"),
        ("prepare.split", {"val": 0.5, "test": 0.5}, "nothing to train on"),
        ("distill.student.size", 250, "distill.student.size"),
        ("distill.student.alpha", "sometimes", "distill.student.alpha"),
        ("distill.student.alpha", 2.0, "distill.student.alpha"),
        (
            "distill.learning_rat",
            0.1,
            "distill.learning_rat: unknown parameter, did you mean distill.learning_rate?",
        ),
        (
            "distill.loss.dic",
            1.0,
            "distill.loss.dic: unknown parameter, did you mean distill.loss.dice?",
        ),
        ("promotion.gates.min_f2", 1.0, "did you mean promotion.gates.min_f1?"),
        ("distil", {}, "distil: unknown parameter, did you mean distill?"),
        ("prepare.zzz", 1, "prepare.zzz: unknown parameter;"),
        ("evaluate.datasets", ["other"], "must contain the first of prepare.datasets"),
        ("evaluate.gate_dataset", "other", "must contain evaluate.gate_dataset ('other')"),
        ("promotion.gates.min_f1", 1.5, "promotion.gates.min_f1"),
        ("promotion.gates.require_clean", "no", "promotion.gates.require_clean"),
    ],
)
def test_a_wrong_value_is_named(
    committed: dict[str, Any], path: str, value: Any, named: str
) -> None:
    values = copy.deepcopy(committed)
    block = values
    *parents, last = path.split(".")
    for parent in parents:
        block = block[parent]
    block[last] = value
    with pytest.raises(InputError) as caught:
        params.parse(values)
    assert named in caught.value.line()
    assert "\n" not in caught.value.line()


def test_keys_that_moved_are_named_with_their_new_place(committed: dict[str, Any]) -> None:
    student = committed["distill"].pop("student")
    committed["distill"] |= student
    with pytest.raises(InputError) as caught:
        params.parse(committed)
    line = caught.value.line()
    first, *others = student
    assert line.startswith(
        f"params.yaml: distill.{first}: moved to distill.student.{first}, as did"
    )
    assert all(key in line for key in others)
    assert "\n" not in line


def test_a_missing_key_is_named(committed: dict[str, Any]) -> None:
    del committed["export"]["tolerance"]
    with pytest.raises(InputError, match=r"export\.tolerance: missing"):
        params.parse(committed)


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "\x00"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(InputError):
        params.load(tmp_path / "params.yaml")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        params.load(tmp_path / "params.yaml")


def test_a_misspelt_key_is_named_before_the_one_it_leaves_missing(
    committed: dict[str, Any],
) -> None:
    committed["distill"]["epoch"] = committed["distill"].pop("epochs")
    with pytest.raises(
        InputError, match=r"distill\.epoch: unknown .* did you mean distill\.epochs\?"
    ):
        params.parse(committed)
    committed["validation"] = committed.pop("validate")
    with pytest.raises(InputError, match=r"^params\.yaml: (validation|distill\.epoch): unknown"):
        params.parse(committed)
