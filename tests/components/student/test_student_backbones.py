from __future__ import annotations

import os
import subprocess
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image

from components.core.errors import InputError
from components.core.weights import lite0, lite0_path, load_third_party
from components.student import backbones
from components.student.infer import shrink, to_tensor

DAISY = 985


@pytest.mark.parametrize("name", backbones.TESTED)
def test_four_scales(name):
    network = backbones.create(name).eval()
    with torch.no_grad():
        features = network(torch.rand(1, 3, 96, 64))
    assert [tuple(f.shape[2:]) for f in features] == [(24, 16), (12, 8), (6, 4), (3, 2)]
    assert [f.shape[1] for f in features] == backbones.widths(network)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("no_such_net", "timm has no network"), ("vit_tiny_patch16_224", "feature strides")],
)
def test_unfit_backbone_is_refused(name, complaint):
    with pytest.raises(InputError, match=complaint):
        backbones.create(name)


def test_package_weights_recognise_a_daisy():
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(lite0(), strict=True)
    photo = to_tensor(shrink(load_sample_image("flower.jpg")[:, 100:527], 224)[None])
    with torch.no_grad():
        assert network((photo - 0.5) / 0.5).argmax().item() == DAISY


def test_package_names_agree_with_the_order_of_both_networks():
    assert list(lite0()) == list(timm.create_model("tf_efficientnet_lite0").state_dict())


def test_package_fills_the_features():
    network = backbones.create("tf_efficientnet_lite0")
    backbones.load_weights(network, "tf_efficientnet_lite0", "package")
    package = load_third_party(lite0_path(), None)
    assert torch.equal(network.state_dict()["conv_stem.weight"], package["_conv_stem.weight"])


def test_package_is_for_one_backbone_only():
    with pytest.raises(InputError, match=r"not of mobilenetv3_large_100.*\.safetensors"):
        backbones.load_weights(
            backbones.create("mobilenetv3_large_100"), "mobilenetv3_large_100", "package"
        )


@pytest.mark.parametrize("name", ["mobilenetv3_large_100", "tiny_vit_5m_224"])
@pytest.mark.parametrize("whole", [True, False])
def test_file_of_the_whole_network_or_of_its_features(name, whole, tmp_path):
    source = timm.create_model(name) if whole else backbones.create(name)
    state = {key: value.contiguous() for key, value in source.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    network = backbones.create(name)
    backbones.load_weights(network, name, str(tmp_path / "w.safetensors"))
    given = {backbones._plain(key): value for key, value in state.items()}
    for key, value in network.state_dict().items():
        assert torch.equal(value, given[backbones._plain(key)])


def _broken(state, how):
    if how == "missing":
        state.pop("conv_stem.weight")
    elif how == "shape":
        state["conv_stem.weight"] = torch.zeros(1)
    else:
        state["stranger"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ("missing", "'conv_stem.weight' is missing"),
        ("shape", r"shape \(1,\), expected \(32, 3, 3, 3\)"),
        ("strange", "'stranger' is not a parameter"),
    ],
)
def test_file_that_does_not_fit(how, complaint, tmp_path):
    network = backbones.create("tf_efficientnet_lite0")
    before = network.state_dict()["conv_stem.weight"].clone()
    state = dict(backbones.create("tf_efficientnet_lite0").state_dict())
    _broken(state, how)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=complaint):
        backbones.load_weights(network, "tf_efficientnet_lite0", str(tmp_path / "w.safetensors"))
    assert torch.equal(network.state_dict()["conv_stem.weight"], before)


def test_file_that_is_none(tmp_path):
    network = backbones.create("tf_efficientnet_lite0")
    (tmp_path / "w.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    for weights, complaint in (
        (str(tmp_path / "absent.safetensors"), "no such file"),
        (str(tmp_path / "w.safetensors"), "not a safetensors file"),
        ("imagenet", "none of package, hub, none"),
    ):
        with pytest.raises(InputError, match=complaint):
            backbones.load_weights(network, "tf_efficientnet_lite0", weights)


@pytest.mark.parametrize("how", ["offline", "refused"])
def test_unreachable_hub_is_one_line_that_names_the_way_out(how, tmp_path):
    """In a process of its own: the hub's library reads its environment once."""
    code = (
        "from components.core.errors import exit_on_error\n"
        "from components.student import backbones as b\n"
        "with exit_on_error():\n"
        "    b.load_weights(b.create('mobilenetv3_large_100'), 'mobilenetv3_large_100', 'hub')\n"
    )
    switch = {"HF_HUB_OFFLINE": "1"} if how == "offline" else {"HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=os.environ | {"HF_HOME": str(tmp_path)} | switch,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert backbones.NO_HUB in done.stderr
