"""What later code may change, each as a patch of a copy of this project.

Every function takes the copy's folder and changes it as a later programmer would: the new name or
rule everywhere in code and settings, but not in what reads old records by their schema.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

Evolution = Callable[[Path], None]
EVOLUTIONS: dict[str, Evolution] = {}
# What says how records of each schema were laid out; history, which no change of today touches.
HISTORY = ("components/registry/schemas.py",)


def evolution(make: Evolution) -> Evolution:
    """List a function in EVOLUTIONS under its name."""
    EVOLUTIONS[make.__name__] = make
    return make


def edit(root: Path, name: str, before: str, after: str) -> None:
    """Replace what occurs once in a file."""
    text = (root / name).read_text()
    assert text.count(before) == 1, f"{name}: {text.count(before)} times {before!r}"
    (root / name).write_text(text.replace(before, after))


def everywhere(root: Path, pattern: str, after: str) -> None:
    """Replace a regular expression in all code and settings but the history."""
    changed = 0
    code = [path for folder in ("components", "flows") for path in (root / folder).rglob("*.py")]
    for path in [*code, root / "params.yaml", root / "dvc.yaml"]:
        if path.relative_to(root).as_posix() not in HISTORY:
            text = path.read_text()
            new = re.sub(pattern, after, text)
            changed += new != text
            path.write_text(new)
    assert changed, pattern


@evolution
def manifest_column(root: Path) -> None:
    """The manifest gets a column."""
    edit(
        root,
        "components/data/manifest.py",
        '        ("n_boxes", pa.int32()),\n',
        '        ("n_boxes", pa.int32()),\n        ("camera", pa.string()),\n',
    )
    edit(
        root,
        "components/data/build.py",
        "images.assign(dataset=name,",
        "images.assign(camera=None, dataset=name,",
    )


@evolution
def results_column(root: Path) -> None:
    """The table of results by photo gets a column."""
    edit(
        root,
        "components/evaluate/run.py",
        '        ("true_area", pa.float64()),',
        '        ("perimeter", pa.float64()),\n        ("true_area", pa.float64()),',
    )


@evolution
def curve_column(root: Path) -> None:
    """The training curve gets a column."""
    edit(
        root,
        "components/distill/progress.py",
        "    epoch: int  # from 1\n",
        "    epoch: int  # from 1\n    momentum: float\n",
    )
    everywhere(root, r"\btrain_loss=", "momentum=0.9, train_loss=")


@evolution
def network_attribute(root: Path) -> None:
    """A module of the network is renamed, and with it the names of its weights."""
    for path in (root / "components/student").rglob("*.py"):
        text = path.read_text()
        path.write_text(
            re.sub(r"self\.fusion\b", "self.mixer", text).replace('"fusion.', '"mixer.')
        )


@evolution
def network_key(root: Path) -> None:
    """A key of the student's configuration is renamed."""
    everywhere(root, r"\bconfig\.channels\b", "config.width")
    everywhere(root, r"(?m)^( +)channels: (?=Annotated|\d)", r"\1width: ")


@evolution
def gate_added(root: Path) -> None:
    """A new gate with a threshold."""
    _gate(root, "0.0")


@evolution
def gate_switched_off(root: Path) -> None:
    """A new gate, switched off."""
    _gate(root, "null")


def _gate(root: Path, threshold: str) -> None:
    edit(
        root,
        "components/core/params.py",
        "    min_image_auc: Share\n",
        "    min_image_auc: Share\n    min_recall: Share | None\n",
    )
    settings = (root / "params.yaml").read_text()
    # With or without comments and indentation of its own, as copies of the project have it.
    new, count = re.subn(
        r"^( +)min_image_auc:.*\n", rf"\g<0>\g<1>min_recall: {threshold}\n", settings, flags=re.M
    )
    assert count == 1
    (root / "params.yaml").write_text(new)
    edit(
        root,
        "components/registry/gates.py",
        '        "max_ece": (',
        '        "min_recall": ("recall", metric(metrics, "recall")),\n        "max_ece": (',
    )


@evolution
def yes_or_no_gate(root: Path) -> None:
    """A new gate that nothing switches off."""
    edit(
        root,
        "components/registry/gates.py",
        "        _lineage(evidence.record),\n",
        "        _lineage(evidence.record),\n"
        '        Gate("photos_consented", "yes", "yes", True, "everyone said yes"),\n',
    )


@evolution
def gate_removed(root: Path) -> None:
    """A gate is no longer asked for."""
    edit(
        root,
        "components/registry/gates.py",
        "        parity(evidence.parity),\n",
        "",
    )


@evolution
def gate_wording(root: Path) -> None:
    """Gates say the same in other words."""
    everywhere(root, r'"no uncommitted change"', '"nothing uncommitted"')
    everywhere(root, r'"clean", "clean"', '"nothing", "nothing"')
    everywhere(root, r'verdict = "passed" if answer', 'verdict = "good" if answer')


@evolution
def parameter_renamed(root: Path) -> None:
    """`prepare.datasets` becomes `prepare.data_sets`."""
    everywhere(root, r"\b(prepare|settings)\.datasets\b", r"\1.data_sets")
    everywhere(root, r'field_validator\("datasets"\)', 'field_validator("data_sets")')
    everywhere(root, r"(?m)^(class Prepare\b[\s\S]*?^    )datasets:", r"\1data_sets:")
    everywhere(root, r"(?m)^(prepare:\n(?:  .*\n)*?  )datasets:", r"\1data_sets:")
    everywhere(root, r'\["prepare"\]\["datasets"\]', '["prepare"]["data_sets"]')


@evolution
def stage_renamed(root: Path) -> None:
    """The stage `validate` becomes `check`; its package stays."""
    everywhere(root, r"(?m)^  validate:\n    desc", "  check:\n    desc")
    edit(root, "components/lineage/record.py", '"validation": "validate"', '"validation": "check"')


@evolution
def outputs_moved(root: Path) -> None:
    """Stages write to other folders."""
    for old, new in (("prepare", "prepared"), ("export", "exported"), ("evaluate", "scores")):
        everywhere(root, rf"\bruns/{old}\b", f"runs/{new}")
        everywhere(root, rf'RUNS / "{old}"', f'RUNS / "{new}"')


@evolution
def package_renamed(root: Path) -> None:
    """`components.evaluate` becomes `components.assess`."""
    shutil.move(root / "components/evaluate", root / "components/assess")
    everywhere(root, r"\bcomponents\.evaluate\b", "components.assess")
    everywhere(root, r"\bcomponents/evaluate\b", "components/assess")


@evolution
def record_schema(root: Path) -> None:
    """New records have another schema."""
    path = root / "components/lineage/record.py"
    text, count = re.subn(
        r"^SCHEMA = (\d+)", lambda m: f"SCHEMA = {int(m[1]) + 1}", path.read_text(), flags=re.M
    )
    assert count == 1
    path.write_text(text)
