"""A memory of good patches: distances as the paper says, one graph for any memory."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from torch import Tensor

from lineside.contract import InputSpec
from lineside_trainer.candidate import compare, export_program
from lineside_trainer.errors import ExperimentError, TrainerError
from lineside_trainer.experiment import AnomalySettings, ModelSettings
from lineside_trainer.models import Normalise, build_backbone
from lineside_trainer.models.detector import MAP, SCORE
from lineside_trainer.models.patch_memory import MemoryDetector, stages_at

INPUT = InputSpec(size_hw=(32, 48), channels=1)
FAMILIES = [("vit_tiny", 0.5), ("resnet18", 0.6), ("sam_cnn", 0.6), ("swin_tiny", 0.5)]
# One graph in three places differs by the order of sums; measured over these families: 7e-7.
ENGINES_AGREE = 1e-5


def make_detector(arch: str = "vit_tiny", layer: float = 0.5, side: int = 1) -> MemoryDetector:
    torch.manual_seed(0)
    size = InputSpec(size_hw=(64, 64), channels=1) if arch == "swin_tiny" else INPUT
    backbone = build_backbone(ModelSettings(arch=arch, patch_px=8), size)
    settings = AnomalySettings(memory_layer=layer, memory_neighbours=side)
    normalise = Normalise((120.0,), (60.0,))
    return MemoryDetector(normalise, backbone, model_input=size, settings=settings).eval()


def make_images(detector: MemoryDetector, count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    hw = (64, 64) if detector.backbone.width == 768 else INPUT.size_hw
    return torch.randint(0, 256, (count, *hw, 1), generator=generator).to(torch.uint8)


@torch.no_grad()
def memory_of(detector: MemoryDetector, images: Tensor) -> Tensor:
    return detector.embed(images).flatten(0, 1)


@torch.no_grad()
def test_what_is_remembered_is_no_anomaly_and_anything_else_is() -> None:
    detector = make_detector()
    good = make_images(detector, 4)
    detector.remember(memory_of(detector, good))
    known, strange = (detector(images) for images in (good, make_images(detector, 4, seed=1)))
    assert float(known[SCORE].abs().max()) < 1e-6
    assert float(strange[SCORE].min()) > 1e-3
    assert torch.equal(strange[SCORE], strange[MAP].flatten(1).amax(dim=1))


@torch.no_grad()
def test_distances_are_those_of_equation_6_in_double_precision() -> None:
    detector = make_detector(side=3)
    memory = memory_of(detector, make_images(detector, 5))[::3]
    images = make_images(detector, 3, seed=1)
    patches = detector.embed(images).double()
    expected = torch.cdist(patches, memory.double()[None]).square().amin(dim=-1) / 2
    found = detector(images, memory)[MAP].flatten(1).double()
    assert float((found - expected).abs().max()) < 1e-6  # |a - b|^2 / 2 of unit vectors


@torch.no_grad()
def test_the_map_shows_where() -> None:
    """A square that no good part has, in one corner."""
    detector = make_detector("resnet18", layer=0.6)
    good = make_images(detector, 6) // 64 + 100
    detector.remember(memory_of(detector, good))
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
    expected = torch.nn.functional.normalize(corner, dim=1)
    assert torch.allclose(wide.embed(images)[:, 0], expected, atol=1e-6)
    assert torch.allclose(wide.embed(images).norm(dim=-1), torch.ones(2, 24), atol=1e-6)


@pytest.mark.parametrize(("arch", "layer"), FAMILIES)
@torch.no_grad()
def test_one_graph_serves_any_batch_and_any_memory(arch: str, layer: float, tmp_path: Path) -> None:
    detector = make_detector(arch, layer, side=3)
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
    compiled = openvino.Core().compile_model(str(file), "CPU", exact)
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
    settings = AnomalySettings(memory_layer=0.6)
    normalise = Normalise((1.0,), (1.0,))
    MemoryDetector(normalise, backbone, model_input=INPUT, settings=settings)
    assert backbone.training
    assert all(torch.equal(before[name], now) for name, now in backbone.state_dict().items())


def _input(detector: MemoryDetector) -> InputSpec:
    height, width = make_images(detector, 1).shape[1:3]
    return InputSpec(size_hw=(height, width), channels=1)
