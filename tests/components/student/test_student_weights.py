"""components/core/weights.py: the one reader of third-party `.pth`."""

from __future__ import annotations

import pickle

import pytest
import torch

from components.core.errors import InputError
from components.core.files import sha256_file
from components.core.weights import load_third_party


def test_hash_first_then_tensors(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"a": torch.arange(3)}, path)
    assert torch.equal(load_third_party(path, sha256_file(path))["a"], torch.arange(3))
    with pytest.raises(InputError, match="SHA-256 is"):
        load_third_party(path, "0" * 64)


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


@pytest.mark.parametrize("content", ["code", "text", "truncated", "nested", "absent"])
def test_anything_else_is_refused_and_never_executed(tmp_path, content):
    path = tmp_path / "w.pth"
    if content == "code":
        path.write_bytes(pickle.dumps({"a": Bomb()}))
    elif content == "text":
        path.write_text("weights")
    elif content == "nested":
        torch.save({"model": {"a": torch.zeros(1)}}, path)
    elif content == "truncated":
        torch.save({"a": torch.zeros(1000)}, path)
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError) as caught:
        load_third_party(path, None)
    assert "\n" not in caught.value.line()
