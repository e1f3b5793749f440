"""A memory of good patches: distances as the paper says, one graph for any memory."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lineside.contract import InputSpec
from lineside.engines.openvino import shared_core
from lineside_trainer.candidate import compare, export_program
from lineside_trainer.errors import ExperimentError, TrainerError
from lineside_trainer.experiment import AnomalySettings, ModelSettings
from lineside_trainer.models import Normalise, build_backbone
from lineside_trainer.models.detector import MAP, SCORE
from lineside_trainer.models.patch_memory import SAME_BELOW, MemoryDetector, Whiten, stages_at

INPUT = InputSpec(size_hw=(32, 48), channels=1)
FAMILIES = [("vit_tiny", 0.5), ("resnet18", 0.6), ("sam_cnn", 0.6), ("swin_tiny", 0.5)]
# One graph in three places differs by the order of sums; measured over these families: 7e-7.
ENGINES_AGREE = 1e-5


def make_detector(arch: str = "vit_tiny", layer: float = 0.5, side: int = 1) -> MemoryDetector:
    torch.manual_seed(0)
    size = InputSpec(size_hw=(64, 64), channels=1) if arch == "swin_tiny" else INPUT
    backbone = build_backbone(ModelSettings(arch=arch, patch_px=8), size)
    told = AnomalySettings(memory_layer=layer, memory_neighbours=side)
    normalise = Normalise((120.0,), (60.0,))
    return MemoryDetector(normalise, backbone, model_input=size, settings=told).eval()


def make_images(detector: MemoryDetector, count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    hw = (64, 64) if detector.backbone.width == 768 else INPUT.size_hw
    return torch.randint(0, 256, (count, *hw, 1), generator=generator).to(torch.uint8)


@torch.no_grad()
def memory_of(detector: MemoryDetector, images: Tensor) -> Tensor:
    return detector.embed(images).flatten(0, 1)


def whitened(detector: MemoryDetector, images: Tensor) -> MemoryDetector:
    with torch.no_grad():
        detector.whiten.measure(detector.patches(images).flatten(0, 1))
    return detector


@torch.no_grad()
def test_what_is_remembered_is_no_anomaly_and_anything_else_is() -> None:
    good = make_images(make_detector(), 4)
    detector = whitened(make_detector(), good)
    detector.remember(memory_of(detector, good))
    known, strange = (detector(images) for images in (good, make_images(detector, 4, seed=1)))
    assert torch.equal(known[MAP], torch.full_like(known[MAP], SAME_BELOW))
    assert float(strange[SCORE].min()) > 2 * SAME_BELOW


@torch.no_grad()
def test_distances_are_exact_and_the_score_is_the_mean_of_the_highest_tenth() -> None:
    detector = whitened(make_detector(side=3), make_images(make_detector(), 20, seed=2))
    memory = memory_of(detector, make_images(detector, 5))[::3]
    images = make_images(detector, 3, seed=1)
    patches = detector.embed(images).double()
    expected = torch.cdist(patches, memory.double()[None]).amin(dim=-1)
    found = detector(images, memory)
    assert torch.allclose(found[MAP].flatten(1).double(), expected, atol=1e-5)
    tenth = expected.sort(dim=1, descending=True).values[:, :2].mean(dim=1)  # of 24 patches
    assert torch.allclose(found[SCORE].double(), tenth, atol=1e-5)


@given(st.integers(0, 50), st.integers(2, 12), st.floats(1e-3, 1e3))
@settings(max_examples=25, deadline=None)
def test_whitened_patches_have_one_covariance_whatever_the_scale(
    seed: int, width: int, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator) + 3 * torch.eye(width)
    patches = scale * (torch.randn(4000, width, generator=generator) @ mixing + 5.0)
    whiten = Whiten(width)
    whiten.measure(patches)
    white = whiten(patches)
    assert torch.allclose(white.mean(dim=0), torch.zeros(width), atol=1e-3)
    spread = torch.linalg.eigvalsh(torch.cov(white.T)) * width
    assert float(spread.max()) <= 1.001
    plain = torch.linalg.eigvalsh(torch.cov(patches.T))
    assert float(spread.min() / spread.max()) > min(0.9, 20 * float(plain.min() / plain.max()))


def test_patches_that_are_all_alike_stay_finite() -> None:
    whiten = Whiten(5)
    whiten.measure(torch.full((7, 5), 3.0))
    assert torch.equal(whiten(torch.full((2, 5), 3.0)), torch.zeros(2, 5))
    assert whiten(torch.randn(2, 5)).isfinite().all()


@torch.no_grad()
def test_the_map_shows_where() -> None:
    """A square that no good part has, in one corner."""
    detector = make_detector("resnet18", layer=0.6)
    good = make_images(detector, 6) // 64 + 100
    whitened(detector, good).remember(memory_of(detector, good))
    image = make_images(detector, 1, seed=3) // 64 + 100
    image[:, :8, 40:] = torch.arange(8, dtype=torch.uint8)[None, None, :, None] * 36
    anomaly = detector(image)[MAP][0]
    row, column = divmod(int(anomaly.argmax()), anomaly.shape[1])
    assert row <= 1
    assert column >= anomaly.shape[1] - 2


@torch.no_grad()
def test_neighbours_average_what_is_there() -> None:
    """Eq. 1 and 2; at the rim nothing is taken for a patch of zeros."""
    plain, wide = make_detector(), make_detector(side=3)
    images = make_images(plain, 2)
    activation = plain.backbone.map_after(plain.normalise(images), plain.stages)
    corner = activation[:, :, :2, :2].mean(dim=(2, 3))
    assert torch.allclose(wide.patches(images)[:, 0], corner, atol=1e-6)
    assert torch.equal(plain.patches(images)[0, 7], activation[0, :, 1, 1])


@pytest.mark.parametrize(("arch", "layer"), FAMILIES)
@torch.no_grad()
def test_one_graph_serves_any_batch_and_any_memory(arch: str, layer: float, tmp_path: Path) -> None:
    detector = make_detector(arch, layer, side=3)
    whitened(detector, make_images(detector, 20, seed=5))
    program = export_program(
        detector, _input(detector), memory_of(detector, make_images(detector, 1))
    )
    file = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = ["image", "memory"]
        torch.onnx.export(program, f=str(file), dynamo=True, input_names=names, verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = shared_core().compile_model(str(file), "CPU", exact)
    for batch, images in ((1, 9), (3, 2), (8, 5)):
        memory = memory_of(detector, make_images(detector, images, seed=batch))
        if batch == 3:
            memory = memory[:1]  # the least there may be
        inputs = make_images(detector, batch, seed=99)
        expected = detector(inputs, memory)
        fed = {"image": inputs.numpy(), "memory": memory.numpy()}
        compare(program, detector, inputs, memory)
        found = [*session.run(None, fed)], [*compiled(fed).values()]
        for values in found:
            for name, value in zip((SCORE, MAP), values, strict=True):
                assert value.shape == expected[name].shape
                assert np.abs(value - expected[name].numpy()).max() <= ENGINES_AGREE


def test_the_program_carries_neither_the_memory_nor_layers_behind_it() -> None:
    detector = make_detector("resnet18", layer=0.6)
    detector.remember(memory_of(detector, make_images(detector, 8)))
    assert detector.memory is not None
    program = export_program(detector, INPUT, detector.memory)
    stored = [*program.state_dict.values(), *program.constants.values()]
    assert not any(tensor.shape == detector.memory.shape for tensor in stored)
    used = {str(node.target) for node in program.graph.nodes}
    convolutions = sum(
        "conv2d" in target for target in used | {str(n.target) for n in program.graph.nodes}
    )
    assert convolutions >= 1
    assert sum("conv2d" in str(node.target) for node in program.graph.nodes) == 10  # of 20


@pytest.mark.parametrize(
    ("share", "stages"), [(1.0, 12), (0.5, 6), (0.25, 3), (0.09, 1), (0.05, 1)]
)
def test_a_share_names_a_block(share: float, stages: int) -> None:
    assert stages_at(share, make_detector().backbone) == stages


def test_impossible_settings_say_which_field_and_what_to_do() -> None:
    with pytest.raises(
        ExperimentError, match=r"memory_layer: 0\.01 of 12.*names none; give 0\.083 to 1"
    ):
        make_detector(layer=0.01)
    with pytest.raises(ExperimentError, match=r"memory_neighbours: 4 is no odd.*give 3 or 5"):
        make_detector(side=4)
    with pytest.raises(ExperimentError, match=r"memory_neighbours: 5 is wider than the map of 4x6"):
        make_detector(side=5)


def test_a_memory_that_does_not_fit_is_refused() -> None:
    detector = make_detector()
    with pytest.raises(TrainerError, match="no good patches"):
        detector(make_images(detector, 1))
    for shape in ((0, 192), (5, 191), (192,)):
        with pytest.raises(TrainerError, match=r"takes \[patches, 192\]"):
            detector.remember(torch.zeros(shape))


def test_measuring_the_map_leaves_the_network_as_it_was() -> None:
    torch.manual_seed(0)
    backbone = build_backbone(ModelSettings(arch="resnet18"), INPUT)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    told = AnomalySettings(memory_layer=0.6)
    normalise = Normalise((1.0,), (1.0,))
    MemoryDetector(normalise, backbone, model_input=INPUT, settings=told)
    assert backbone.training
    assert all(torch.equal(before[name], now) for name, now in backbone.state_dict().items())


def _input(detector: MemoryDetector) -> InputSpec:
    height, width = make_images(detector, 1).shape[1:3]
    return InputSpec(size_hw=(height, width), channels=1)
