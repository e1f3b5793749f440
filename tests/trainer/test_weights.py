"""Weights of elsewhere: what is made to fit, what is left out, and what is refused."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import interpolate

from lineside.contract import InputSpec
from lineside_trainer.ancestry.weights_file import advice, read_weights_file
from lineside_trainer.errors import ExperimentError, TrainerError
from lineside_trainer.experiment import ModelSettings
from lineside_trainer.models import Backbone, build_backbone
from lineside_trainer.models.vit import VitBackbone
from lineside_trainer.models.weights import fit_weights, timm_names, unwrapped


def build(
    arch: str, *, size_hw: tuple[int, int] = (32, 32), channels: int = 1, patch_px: int = 8
) -> Backbone:
    torch.manual_seed(1)
    spec = InputSpec(size_hw=size_hw, channels=1 if channels == 1 else 3)
    return build_backbone(ModelSettings(arch=arch, patch_px=patch_px), spec).eval()


def timm_network(name: str, **settings: Any) -> Any:
    """timm's own types do not know what they made."""
    return timm.create_model(name, **settings)


def foreign(name: str, **settings: Any) -> dict[str, Tensor]:
    """What a file of timm's holds: three channels, a classifier."""
    torch.manual_seed(2)
    state: dict[str, Tensor] = timm_network(name, **settings).state_dict()
    return state


def gray(count: int, size_px: int) -> Tensor:
    return torch.randn(count, 1, size_px, size_px, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_a_folded_stem_sees_gray_as_the_old_one_saw_three_equal_channels() -> None:
    state = foreign("test_resnet")
    one = build("test_resnet")
    done = fit_weights(one, state, told="test")
    three = timm_network("test_resnet").eval()
    three.load_state_dict(state)
    images = gray(2, 32)
    wanted = three.forward_features(images.expand(-1, 3, -1, -1))
    # fp32 sums in another order.
    torch.testing.assert_close(one.feature_map(images), wanted, rtol=1e-4, atol=1e-5)
    assert done.changes == ("3 input channels summed into 1",)
    assert done.ignored == ("fc.bias", "fc.weight")


@torch.no_grad()
def test_a_shared_out_stem_sees_three_equal_channels_as_the_old_one_saw_gray() -> None:
    one, three = build("sam_cnn"), build("sam_cnn", channels=3)
    done = fit_weights(three, one.net.state_dict(), told="test")
    images = gray(2, 32)
    torch.testing.assert_close(
        three.feature(images.expand(-1, 3, -1, -1)), one.feature(images), rtol=1e-4, atol=1e-5
    )
    assert done.changes == ("1 input channel shared out to 3",)


@torch.no_grad()
def test_a_house_vit_takes_timms_vit_of_another_patch_size_and_channels() -> None:
    state = foreign("vit_tiny_patch16_224")
    ours = build("vit_tiny", size_hw=(48, 64))
    done = fit_weights(ours, state, told="test")
    assert done.ignored == ("head.bias", "head.weight")
    assert done.changes == (
        "patches of 16 px resampled to 8, 3 input channels summed into 1",
        "positions of 14x14 patches interpolated to 6x8",
    )
    held = ours.net.state_dict()
    for name in ("blocks.11.mlp.fc2.weight", "norm.weight", "cls_token"):
        assert torch.equal(held[name], state[name])
    # The class token's position is no place in the picture.
    assert torch.equal(held["pos_embed"][:, 0], state["pos_embed"][:, 0])


@torch.no_grad()
def test_a_larger_patch_sees_an_enlarged_picture_as_the_old_one_saw_it() -> None:
    """Beyer et al. 2023, "FlexiViT", sec. 3.4: exact where patches grow."""
    small = build("vit_tiny", size_hw=(8, 8), patch_px=8)
    large = build("vit_tiny", size_hw=(16, 16), patch_px=16)
    fit_weights(large, small.net.state_dict(), told="test")
    picture = gray(1, 8)
    enlarged = interpolate(picture, size=(16, 16), mode="bicubic", antialias=True)
    assert isinstance(large, VitBackbone) and isinstance(small, VitBackbone)
    found, wanted = large.net.patch_embed(enlarged), small.net.patch_embed(picture)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_positions_of_a_known_grid_are_not_taken_for_a_square() -> None:
    wide, high = build("vit_tiny", size_hw=(16, 64)), build("vit_tiny", size_hw=(64, 16))
    done = fit_weights(high, wide.net.state_dict(), told="test", rows_cols=(2, 8))
    assert done.changes == ("positions of 2x8 patches interpolated to 8x2",)
    again = build("vit_tiny", size_hw=(16, 64))
    assert fit_weights(again, wide.net.state_dict(), told="test", rows_cols=(2, 8)).changes == ()
    assert torch.equal(again.net.state_dict()["pos_embed"], wide.net.state_dict()["pos_embed"])


def test_swin_takes_weights_of_another_size_and_of_its_authors() -> None:
    state = foreign("swin_tiny_patch4_window7_224", img_size=224)
    done = fit_weights(build("swin_tiny"), state, told="test")
    assert "position biases of windows interpolated to this size" in done.changes
    # As Microsoft's files have it: halved at a stage's end, buffers kept, wrapped.
    theirs = {
        name.replace(f"layers.{stage + 1}.downsample", f"layers.{stage}.downsample"): value
        for name, value in state.items()
        for stage in [int(name.split(".")[1]) - 1 if name.startswith("layers.") else 0]
    }
    theirs["layers.0.blocks.1.attn_mask"] = torch.zeros(4)
    again = build("swin_tiny")
    fit_weights(again, unwrapped({"model": theirs, "epoch": 299}), told="test")
    held, first = again.net.state_dict(), "layers.1.downsample.reduction.weight"
    assert torch.equal(held[first], state[first])


def test_torchvisions_vgg_has_its_dense_layers_as_convolutions_here() -> None:
    with torch.device("meta"):  # half a gigabyte, of which only names and shapes count
        torchvision = {
            **{f"features.{n}": t for n, t in timm_network("vgg11").features.state_dict().items()},
            "classifier.0.weight": torch.empty(4096, 25088),
            "classifier.0.bias": torch.empty(4096),
            "classifier.3.weight": torch.empty(4096, 4096),
            "classifier.3.bias": torch.empty(4096),
            "classifier.6.weight": torch.empty(1000, 4096),
            "classifier.6.bias": torch.empty(1000),
        }
        wanted = timm_network("vgg11").state_dict()
    named = timm_names(torchvision)
    assert {n: t.shape for n, t in named.items()} == {n: t.shape for n, t in wanted.items()}


@pytest.mark.parametrize("wrap", ["bare", "state_dict", "module.", "encoder.", "weights"])
def test_wrappings_of_training_scripts_are_taken_off(wrap: str) -> None:
    own = dict(build("test_resnet").net.state_dict())
    content: dict[str, object] = dict(own)
    if wrap.endswith("."):
        prefixed = {wrap + name: value for name, value in own.items()}
        content = {"model": {**prefixed, "decoder.0.weight": torch.zeros(3)}, "epoch": 5}
    elif wrap != "bare":
        content = {wrap: own, "epoch": 5}
    other = build("test_resnet")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    done = fit_weights(other, unwrapped(content), told="test")
    assert done.ignored == (("decoder.0.weight",) if wrap.endswith(".") else ())
    assert all(torch.equal(other.net.state_dict()[name], value) for name, value in own.items())


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda s: s.pop("layer4.0.conv1.weight"), "1 of"),
        (lambda s: s.update({"layer9.weight": torch.zeros(2)}), "1 tensors more"),
        (lambda s: s.update({"conv1.0.weight": torch.zeros(2)}), "holds another network: conv1.0"),
        (lambda s: s.update({"bn1.bias": s["bn1.bias"] * float("nan")}), "not finite: bn1.bias"),
        (lambda s: [s.pop(name) for name in list(s)], "not one tensor"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(break_it: object, words: str) -> None:
    backbone = build("test_resnet")
    before = {name: value.clone() for name, value in backbone.net.state_dict().items()}
    state = dict(build("test_resnet").net.state_dict())
    assert callable(break_it)
    break_it(state)
    with pytest.raises(ExperimentError) as refused:
        fit_weights(backbone, state, told="model.weights: file")
    assert words in str(refused.value)
    assert str(refused.value).startswith("model.weights: file")
    assert all(torch.equal(backbone.net.state_dict()[n], value) for n, value in before.items())


@pytest.mark.parametrize("pair", [("vit_tiny", "vit_small"), ("test_resnet", "sam_cnn")])
def test_another_network_is_refused_in_a_line(pair: tuple[str, str]) -> None:
    with pytest.raises(ExperimentError, match="--arch") as refused:
        fit_weights(build(pair[0]), build(pair[1]).net.state_dict(), told="test")
    assert len(str(refused.value)) < 500


def test_files_of_both_kinds_are_read_and_others_refused(tmp_path: Path) -> None:
    state = dict(build("test_resnet").net.state_dict())
    save_file(state, tmp_path / "w.safetensors")
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        read = read_weights_file(tmp_path / name, "test_resnet")
        assert read.keys() == state.keys()
        assert all(torch.equal(read[key], value) for key, value in state.items())
    (tmp_path / "torn.pth").write_bytes((tmp_path / "w.pth").read_bytes()[:5000])
    (tmp_path / "torn.safetensors").write_bytes(b"\x00" * 40)
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("torn.pth", "torn.safetensors", "list.pt"):
        with pytest.raises(TrainerError, match=name):
            read_weights_file(tmp_path / name, "test_resnet")


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.remove, ("bystander",)


def test_a_file_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bystander").write_text("alive")
    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(ExperimentError, match="could run code"):
        read_weights_file(tmp_path / "bomb.pth", "resnet18")
    assert (tmp_path / "bystander").exists()


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        ("vit_tiny", "https://huggingface.co/timm/vit_tiny_patch16_224"),
        ("swin_base", "https://huggingface.co/timm/swin_base_patch4_window12_384"),
        ("resnet50.a1_in1k", "https://huggingface.co/timm/resnet50.a1_in1k"),
        ("sam_cnn", "no public weights are known"),
    ],
)
def test_a_missing_file_says_where_to_get_one(tmp_path: Path, arch: str, words: str) -> None:
    with pytest.raises(ExperimentError) as refused:
        read_weights_file(tmp_path / "none.safetensors", arch)
    assert words in str(refused.value)
    assert words in advice(arch)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as its stock client asks for a file: one model there, one gone, one torn
    off, one out of order."""

    content = b""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        if "resnet18" in self.path:
            self.connection.close()
            return
        if "test_resnet" not in self.path or not self.path.endswith(".safetensors"):
            self.send_error(403 if "resnet34" in self.path else 404)
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", '"weights"')
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        if body:
            self.wfile.write(self.content)

    def log_message(self, format: str, *args: object) -> None:
        """Not a word."""


FETCH = """
import json, sys
from lineside_trainer.errors import LinesideError
from lineside_trainer.ancestry.weights_file import download_weights
found = {}
for arch in sys.argv[1:]:
    try:
        found[arch] = str(download_weights(arch))
    except LinesideError as error:
        found[arch] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    save_file(dict(build("test_resnet").net.state_dict()), tmp_path / "on_hub.safetensors")
    Hub.content = (tmp_path / "on_hub.safetensors").read_bytes()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_download_gives_the_file_or_says_in_our_words_why_not(hub: str, tmp_path: Path) -> None:
    archs = ("test_resnet", "resnet18", "resnet34", "resnet50", "sam_cnn", "efficientnet_b7")
    offline = {name: "" for name in os.environ if name.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-c", FETCH, *archs],
        env={**os.environ, **offline, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(done.stdout)
    fetched = Path(found["test_resnet"])
    assert fetched.is_relative_to(tmp_path / "cache")
    assert fetched.read_bytes() == Hub.content
    for arch in ("resnet18", "resnet34", "resnet50"):
        assert found[arch].startswith("TrainerError: model.download: timm/" + arch)
        assert "give it with --weights" in found[arch]
    for arch in ("sam_cnn", "efficientnet_b7"):
        assert found[arch].startswith("ExperimentError: model.download: of " + arch)
