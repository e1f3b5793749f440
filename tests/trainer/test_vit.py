"""The vision transformers of table 2, and how images are cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lineside.contract import InputSpec
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import Experiment, ModelSettings, TrainSettings
from lineside_trainer.models import Normalise, use_fused_attention
from lineside_trainer.models.vit import (
    PatchGrid,
    VitBackbone,
    build_vit,
    patchify,
    sine_positions,
    unpatchify,
)
from lineside_trainer.tasks import build_task

PAPER = PatchGrid(size_hw=(64, 64), patch_px=8, channels=1)

grids = st.builds(
    lambda rows, cols, patch, channels: PatchGrid(
        size_hw=(rows * patch, cols * patch), patch_px=patch, channels=channels
    ),
    rows=st.integers(1, 5),
    cols=st.integers(1, 5),
    patch=st.integers(1, 6),
    channels=st.integers(1, 4),
)


@pytest.mark.parametrize(
    ("arch", "millions"), [("vit_tiny", 5.76), ("vit_small", 22.14), ("vit_base", 86.73)]
)
def test_parameters_are_those_of_the_papers_table_2(arch: str, millions: float) -> None:
    experiment = Experiment(model=ModelSettings(arch=arch), train=TrainSettings(target="x"))
    normalise = Normalise((127.0,), (50.0,))
    task = build_task(
        experiment,
        InputSpec(size_hw=(64, 64), channels=1),
        normalise,
        torch.arange(3.0).double().numpy(),
    )
    count = sum(p.numel() for layer in task.layers() for p in layer)
    assert round(count / 1e6, 2) == millions
    assert count == sum(p.numel() for p in task.parameters())


@given(grid=grids, images=st.integers(1, 3), seed=st.integers(0, 99))
def test_unpatchify_undoes_patchify(grid: PatchGrid, images: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(images, grid.channels, *grid.size_hw, generator=generator)
    patches = patchify(pixels, grid)
    assert patches.shape == (images, grid.count, grid.values)
    assert torch.equal(unpatchify(patches, grid), pixels)


@given(grid=grids, data=st.data())
def test_a_patch_holds_the_pixels_of_its_place(grid: PatchGrid, data: st.DataObject) -> None:
    rows, cols = grid.rows_cols
    row, col = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1))
    pixels = torch.arange(grid.channels * grid.size_hw[0] * grid.size_hw[1]).reshape(
        1, grid.channels, *grid.size_hw
    )
    patch = grid.patch_px
    window = pixels[0, :, row * patch : (row + 1) * patch, col * patch : (col + 1) * patch]
    expected = window.permute(1, 2, 0).reshape(-1)
    assert torch.equal(patchify(pixels, grid)[0, row * cols + col], expected)


@pytest.mark.parametrize("size_hw", [(64, 63), (0, 64), (4, 64)])
def test_an_image_the_patches_do_not_fill_is_refused(size_hw: tuple[int, int]) -> None:
    with pytest.raises(ExperimentError, match=r"model\.patch_px"):
        PatchGrid(size_hw=size_hw, patch_px=8, channels=1)


def test_an_unknown_arch_is_named_with_those_there_are() -> None:
    with pytest.raises(ExperimentError, match=r"vit_huge.*vit_tiny, vit_small, vit_base"):
        build_vit("vit_huge", PAPER)


@pytest.mark.parametrize(
    ("size_hw", "patch", "channels"), [((64, 64), 8, 1), ((48, 96), 16, 3), ((20, 30), 5, 2)]
)
def test_any_size_patch_and_depth_goes_through(
    size_hw: tuple[int, int], patch: int, channels: int
) -> None:
    grid = PatchGrid(size_hw=size_hw, patch_px=patch, channels=channels)
    net = build_vit("vit_tiny", grid)
    images = torch.rand(2, channels, *size_hw)
    for pool in ("mean", "cls"):
        backbone = VitBackbone(net, grid, pool=pool).eval()
        assert backbone.feature(images).shape == (2, backbone.width) == (2, 192)
        assert backbone.feature_map(images).shape == (2, 192, *grid.rows_cols)
        known = [id(p) for layer in backbone.layers() for p in layer]
        assert sorted(known) == sorted(id(p) for p in backbone.parameters())


def test_the_map_keeps_each_patch_at_its_place() -> None:
    grid = PatchGrid(size_hw=(8, 12), patch_px=4, channels=1)
    backbone = VitBackbone(build_vit("vit_tiny", grid), grid)
    tokens = torch.arange(1.0 + grid.count)[None, :, None].expand(1, -1, 5)
    assert torch.equal(backbone.as_map(tokens)[0, 3], torch.tensor([[1.0, 2, 3], [4, 5, 6]]))


def test_both_attentions_compute_the_same() -> None:
    torch.manual_seed(0)
    encoder = build_vit("vit_tiny", PAPER).eval()
    images = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        use_fused_attention(encoder, fused=True)
        fused = encoder.forward_features(images)
        use_fused_attention(encoder, fused=False)
        plain = encoder.forward_features(images)
    # fp32 sums in another order through 12 blocks: 4e-6 measured, outputs of size 1.
    assert torch.allclose(fused, plain, atol=5e-5)
    assert not any(getattr(m, "fused_attn", False) for m in encoder.modules())


@given(grid=grids)
def test_every_place_has_its_own_position(grid: PatchGrid) -> None:
    positions = sine_positions(grid, 16)
    assert positions.shape == (grid.count, 16)
    assert len(torch.unique(positions, dim=0)) == grid.count
    # Each wave pair has length 1: 16 / 2 pairs.
    assert torch.allclose(positions.square().sum(dim=1), torch.tensor(8.0))


def test_positions_need_a_width_of_whole_wave_pairs() -> None:
    with pytest.raises(ExperimentError, match="multiple of 4"):
        sine_positions(PAPER, 18)


def test_normalise_gives_mean_0_and_std_1_and_survives_a_flat_channel() -> None:
    pixels = torch.randint(0, 256, (4, 6, 5, 2), dtype=torch.uint8)
    pixels[..., 1] = 7
    values = pixels.double()
    mean, std = values.mean((0, 1, 2)), values.std((0, 1, 2), correction=0)
    out = Normalise(tuple(mean.tolist()), tuple(std.tolist()))(pixels)
    assert out.shape == (4, 2, 6, 5)
    assert out.dtype == torch.float32
    assert abs(float(out[:, 0].mean())) < 1e-5
    assert abs(float(out[:, 0].std(correction=0)) - 1) < 1e-5
    assert torch.equal(out[:, 1], torch.zeros(4, 6, 5))
