from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from components.core.errors import InputError
from components.core.files import sha256_json
from components.student import config, store
from components.student.config import Scores, StudentConfig, ValidationScores


def test_round_trip(make, tmp_path):
    student, photo = make(alpha=0.3), torch.rand(1, 3, 64, 64)
    store.save(student, tmp_path)
    again = store.load(tmp_path)
    assert not again.training
    assert again.config == student.config
    with torch.no_grad():
        assert torch.equal(again(photo), student(photo))


def test_equal_students_give_equal_bytes(make, tmp_path):
    for name in "ab":
        store.save(make(), tmp_path / name)
    for file in (config.WEIGHTS, config.CONFIG):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("how", ["truncated", "tampered", "missing"])
def test_weights_that_are_not_what_was_saved(make, tmp_path, how):
    store.save(make(), tmp_path)
    path = tmp_path / config.WEIGHTS
    data = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    else:
        data[-1] ^= 1
        path.write_bytes(data if how == "tampered" else data[:-1000])
    with pytest.raises(InputError, match="no such file" if how == "missing" else "SHA-256"):
        store.load(tmp_path)


CHANGES = {
    "backbone": "mobilenetv3_large_100",
    "size": 96,
    "channels": 24,
    "prototypes": 0,
    "alpha": 0.25,
    "gates": False,
    "dual_guidance": False,
    "frontend": "highpass",
    "view": "tiles",
    "overlap": 0.5,
    "copies": True,
    "mean": [0.4, 0.5, 0.5],
    "std": [0.5, 0.5, 0.4],
    "temperature": 1.5,
    "image_threshold": 0.5,
    "validation_scores": {
        "format": 1,
        "side": 96,
        "jpeg_quality": [70, 95],
        "authentic": {"n": 2, "kept": [0.1, 0.2]},
        "manipulated": {"n": 0, "kept": []},
    },
    "weights_sha256": "0" * 64,
    "colour": 1,
}
SCORES = CHANGES["validation_scores"]


def write(path, values, own_hash=None):
    rest = {name: value for name, value in values.items() if name != "config_sha256"}
    path.write_text(json.dumps(rest | {"config_sha256": own_hash or sha256_json(rest)}))


def test_every_value_is_covered():
    assert CHANGES.keys() >= StudentConfig.model_fields.keys() - {"format"}


@pytest.mark.parametrize("name", CHANGES)
def test_one_changed_value_is_refused(make, tmp_path, name):
    store.save(make(), tmp_path)
    path = tmp_path / config.CONFIG
    values = json.loads(path.read_text())
    assert values.get(name) != CHANGES[name]
    write(path, values | {name: CHANGES[name]}, values["config_sha256"])
    with pytest.raises(InputError, match=r"student\.json: SHA-256 differs from config_sha256"):
        store.load(tmp_path)
    # The way it is written is no change.
    write(path, dict(sorted(values.items())), values["config_sha256"])
    store.load(tmp_path)


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "colour"])
def test_a_value_that_was_taken_out_is_refused(make, tmp_path, name):
    store.save(make(), tmp_path)
    path = tmp_path / config.CONFIG
    values = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in values.items() if key != name}))
    with pytest.raises(InputError, match="config_sha256"):
        config.parse(config.read(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("told", "complaint"),
    [("missing", "config_sha256 is missing; train"), (None, "is missing"), (7, "is missing")],
)
def test_config_without_its_own_hash(make, tmp_path, told, complaint):
    store.save(make(), tmp_path)
    path = tmp_path / config.CONFIG
    values = json.loads(path.read_text()) | {"config_sha256": told}
    if told == "missing":
        del values["config_sha256"]
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=complaint):
        store.load(tmp_path)


def test_validation_scores_travel_with_the_student(make, tmp_path):
    student, scores = make(), ValidationScores.model_validate_json(json.dumps(SCORES))
    student.config = student.config.model_copy(update={"validation_scores": scores})
    store.save(student, tmp_path)
    assert store.load(tmp_path).config == student.config
    path = tmp_path / config.CONFIG  # before they were kept
    values = json.loads(path.read_text())
    del values["validation_scores"]
    write(path, values)
    assert store.load(tmp_path).config.validation_scores is None


@pytest.mark.parametrize("n", [0, 1, 2, 1001])
def test_of_few_photos_every_score_is_kept(n):
    known = np.random.default_rng(n).random(n).round(6)
    scores = Scores.of(known)
    assert scores.kept == tuple(sorted(known))
    for score in (0.0, 0.25, *known[:9], 1.0):
        assert scores.at_least(score) == (known >= score).sum()


@pytest.mark.parametrize("n", [1002, 2001, 54_321])
def test_of_many_photos_the_number_is_never_too_small_and_nearly_right(n):
    known = np.random.default_rng(n).random(n).round(6)
    scores = Scores.of(known)
    assert len(scores.kept) == 1001
    assert (scores.kept[0], scores.kept[-1]) == (known.min(), known.max())
    for score in (0.0, 1e-6, *np.linspace(0.001, 1, 500), known.max(), 1.0):
        true = (known >= score).sum()
        assert true <= scores.at_least(score) <= true + n / 1000 + 1


@pytest.mark.parametrize("text", ['{"temperature": NaN, %s}', '{"backbone": "\\ud800", %s}'])
def test_config_that_no_hash_can_be_made_of(tmp_path, text):
    (tmp_path / config.CONFIG).write_text(text % f'"config_sha256": "{"0" * 64}"')
    with pytest.raises(InputError, match="the file was changed"):
        store.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"channels": 24}, "does not fit"),
        ({"channels": "16"}, "channels"),
        ({"format": 2}, "format"),
        ({"colour": 1}, "colour"),
        ({"weights_sha256": None}, "weights_sha256 is missing"),
        ({"backbone": "no_such_net"}, "no network"),
        ({"prototypes": 0}, "does not fit"),
    ],
)
def test_config_that_was_written_by_something_else(make, tmp_path, change, complaint):
    store.save(make(), tmp_path)
    path = tmp_path / config.CONFIG
    write(path, json.loads(path.read_text()) | change)
    with pytest.raises(InputError, match=complaint):
        store.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"), [("[1", "not valid JSON"), ("[1]", "config_sha256 is missing")]
)
def test_config_that_is_no_json(tmp_path, text, complaint):
    (tmp_path / config.CONFIG).write_text(text)
    with pytest.raises(InputError, match=complaint):
        store.load(tmp_path)
