"""Augmentation of whole batches: every image its own draw, no loop over images."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
import torch

from lineside_trainer.data.draws import uniform

Strength = Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)]


class Augmentation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may happen to a training image. The defaults are the paper's best (tab. 3c).

    Attributes:
        flip_horizontal: mirror left and right, each image with probability 1/2.
        flip_vertical: mirror top and bottom, each image with probability 1/2.
        crop: ``fixed`` takes a window of the image's own size at a random place of the image that
            was extended by ``crop_px`` on each side by reflection, so that scale never changes;
            ``resized`` takes a window of random area and aspect and enlarges it to full size.
        crop_px: how far a fixed crop may lie off centre, in pixels.
        resized_area: least and most share of the area a resized crop takes.
        resized_aspect: least and most width to height of a resized crop.
        brightness: factor between 1 less and 1 plus this, on all pixels; each image its own.
        contrast: likewise, about the image's mean. Both are 0 in the paper; they are for lines
            whose light or exposure changes between those images that have labels and the next.
    """

    flip_horizontal: bool = True
    flip_vertical: bool = True
    crop: Literal["none", "fixed", "resized"] = "fixed"
    crop_px: int = 4
    resized_area: tuple[float, float] = (0.2, 1.0)
    resized_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    brightness: Strength = 0.0
    contrast: Strength = 0.0

    def __post_init__(self) -> None:
        if self.crop_px < 0:
            raise ValueError(f"crop_px {self.crop_px}: pixels cannot be negative")
        low, high = self.resized_area
        if not 0 < low <= high <= 1:
            raise ValueError(f"resized_area {self.resized_area}: 0 < least <= most <= 1 is needed")
        low, high = self.resized_aspect
        if not 0 < low <= high:
            raise ValueError(f"resized_aspect {self.resized_aspect}: 0 < least <= most is needed")


NO_AUGMENTATION: Final = Augmentation(flip_horizontal=False, flip_vertical=False, crop="none")


def augment_batch(
    images_nchw: torch.Tensor, settings: Augmentation, generator: torch.Generator
) -> torch.Tensor:
    """Flip, crop and light each image by its own draw.

    Draws come from ``generator`` on its own device, so a CPU generator gives the same pictures on
    CPU and GPU (resized crops and light up to rounding).

    Args:
        images_nchw: (N, C, H, W) uint8.
        settings: what may happen.
        generator: advances by the same number of draws whatever they are; by two an image more
            where light changes.

    Returns:
        (N, C, H, W) uint8 on the images' device; the very tensor where nothing was asked for.
    """
    if settings == NO_AUGMENTATION:
        return images_nchw
    count = len(images_nchw)
    device = images_nchw.device
    draws = uniform((6, count), generator, images_dim=1).to(device)
    flip_x = (draws[0] < 0.5) & settings.flip_horizontal
    flip_y = (draws[1] < 0.5) & settings.flip_vertical
    if settings.crop == "resized":
        seen = _resized_crops(images_nchw, settings, draws[2:], flip_x, flip_y)
    else:
        seen = _fixed_crops(images_nchw, settings, draws[2:4], flip_x, flip_y)
    if settings.brightness == settings.contrast == 0:
        return seen
    return _in_other_light(seen, settings, uniform((2, count), generator, images_dim=1).to(device))


def _fixed_crops(
    images_nchw: torch.Tensor,
    settings: Augmentation,
    draws: torch.Tensor,
    flip_x: torch.Tensor,
    flip_y: torch.Tensor,
) -> torch.Tensor:
    """Whole pixels are picked, so nothing is rounded."""
    reach = settings.crop_px if settings.crop == "fixed" else 0
    shift_y, shift_x = (draws * (2 * reach + 1)).long() - reach
    height, width = images_nchw.shape[2:]
    rows = _source_index(height, shift_y, flip_y)
    columns = _source_index(width, shift_x, flip_x)
    picked = images_nchw.gather(2, rows[:, None, :, None].expand_as(images_nchw))
    return picked.gather(3, columns[:, None, None, :].expand_as(images_nchw))


def _source_index(extent: int, shift: torch.Tensor, flip: torch.Tensor) -> torch.Tensor:
    """(N, extent) which source pixel each output pixel shows, reflected at both ends."""
    index = torch.arange(extent, device=shift.device)[None, :] + shift[:, None]
    if extent == 1:
        return torch.zeros_like(index)
    # Reflection without repeating the border pixel: a triangle wave of period 2 * (extent - 1).
    index = (extent - 1) - (index.remainder(2 * (extent - 1)) - (extent - 1)).abs()
    return torch.where(flip[:, None], index.flip(1), index)


def _resized_crops(
    images_nchw: torch.Tensor,
    settings: Augmentation,
    draws: torch.Tensor,
    flip_x: torch.Tensor,
    flip_y: torch.Tensor,
) -> torch.Tensor:
    """Szegedy et al. 2015, sec. 6: area uniform, aspect log-uniform, window inside the image."""
    least, most = settings.resized_area
    area = least + (most - least) * draws[0]
    low, high = torch.tensor(settings.resized_aspect).log().tolist()
    aspect = torch.exp(low + (high - low) * draws[1])
    width = (area * aspect).sqrt().clamp(max=1.0)
    height = (area / aspect).sqrt().clamp(max=1.0)
    theta = images_nchw.new_zeros((len(images_nchw), 2, 3), dtype=torch.float32)
    theta[:, 0, 0] = torch.where(flip_x, -width, width)
    theta[:, 1, 1] = torch.where(flip_y, -height, height)
    theta[:, 0, 2] = (1.0 - width) * (2.0 * draws[2] - 1.0)
    theta[:, 1, 2] = (1.0 - height) * (2.0 * draws[3] - 1.0)
    shape = list(images_nchw.shape)
    grid = torch.nn.functional.affine_grid(theta, shape, align_corners=False)
    sampled = torch.nn.functional.grid_sample(
        images_nchw.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled.round().clamp(0, 255).to(torch.uint8)


def _in_other_light(
    images_nchw: torch.Tensor, settings: Augmentation, draws: torch.Tensor
) -> torch.Tensor:
    """Brightness scales all pixels, contrast their distance from the image's mean; then clipped."""
    brightness = 1.0 + settings.brightness * (2.0 * draws[0] - 1.0)
    contrast = 1.0 + settings.contrast * (2.0 * draws[1] - 1.0)
    bright = images_nchw.float() * brightness[:, None, None, None]
    mean = bright.mean(dim=(1, 2, 3), keepdim=True)
    lit = mean + (bright - mean) * contrast[:, None, None, None]
    return lit.round().clamp(0, 255).to(torch.uint8)
