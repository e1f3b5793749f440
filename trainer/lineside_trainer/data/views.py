"""Random views of whole batches for Siamese learning: every image its own draw, no loop.

What happens in the plane (crop, flip, blur) is linear along each axis, so a view is two matrix
products with a small matrix an image and axis; what happens to colour is one more with a 3x3
matrix, and one shift. Saturation, hue and grayscale need colour, and are left out for gray images.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
import torch
from torch import Tensor

from lineside_trainer.data.draws import uniform

Chance = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Strength = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]

_DRAWN: Final = (
    *("area", "aspect", "y", "x", "flip_y", "flip_x", "blur", "sigma"),
    *("jitter", "brightness", "contrast", "saturation", "hue", "grayscale"),
)
"""The rows of a view's draws; all are drawn whatever the settings say, so none shifts another."""

# Luma and the two axes of colour (NTSC): a hue is an angle in that plane, gray is its origin.
_YIQ: Final = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


class Views(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may make two views of an image differ (Intxausti et al., sec. 3.2).

    Chances and strengths are those of Chen & He 2021, sec. 3; but the crop keeps at least 80 % of
    the area ("by up to 20 %") where theirs keeps 20 %, and blur is told by the image's size.
    Also differs: brightness, contrast and hue in this order instead of a random one, hue by
    turning the plane of colours (YIQ), pixels clipped once, at the end.

    Attributes:
        crop_area: least and most share of the area that is kept and enlarged to full size.
        crop_aspect: least and most stretch of the crop's width to height.
        flip_horizontal: chance of mirroring left and right.
        flip_vertical: chance of mirroring top and bottom; not in the papers, hence 0.
        jitter: chance that brightness, contrast, saturation and hue change at all.
        brightness: factor between 1 less and 1 plus this.
        contrast: likewise, about the image's mean.
        saturation: likewise; colour images only.
        hue: at most so much of a full turn either way, up to 0.5; colour images only.
        grayscale: chance of losing all colour; colour images only.
        blur: chance of a Gaussian blur.
        blur_sigma: least and most standard deviation, in sides of the shorter side; the default is
            about their 0.1 to 2.0 px at 224 px.
    """

    crop_area: tuple[float, float] = (0.8, 1.0)
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip_horizontal: Chance = 0.5
    flip_vertical: Chance = 0.0
    jitter: Chance = 0.8
    brightness: Strength = 0.4
    contrast: Strength = 0.4
    saturation: Strength = 0.4
    hue: Annotated[float, msgspec.Meta(ge=0.0, le=0.5)] = 0.1
    grayscale: Chance = 0.2
    blur: Chance = 0.5
    blur_sigma: tuple[float, float] = (0.0005, 0.009)

    def __post_init__(self) -> None:
        low, high = self.crop_area
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_area {self.crop_area}: 0 < least <= most <= 1 is needed")
        low, high = self.crop_aspect
        if not 0 < low <= high:
            raise ValueError(f"crop_aspect {self.crop_aspect}: 0 < least <= most is needed")
        low, high = self.blur_sigma
        if not 0 < low <= high <= 1:
            raise ValueError(f"blur_sigma {self.blur_sigma}: 0 < least <= most <= 1 is needed")


def draw_views(images: int, generator: torch.Generator) -> Tensor:
    """Draw what two views of each image need.

    Args:
        images: how many, N.
        generator: of the draws; a CPU's gives the same views on every device.

    Returns:
        (2, draws, N) float32 in [0, 1); columns may be sliced.
    """
    return uniform((2, len(_DRAWN), images), generator, images_dim=2)


def make_view(images_nhwc: Tensor, settings: Views, draws: Tensor) -> Tensor:
    """One view of each image.

    Args:
        images_nhwc: (N, H, W, C) of any dtype, 0..255; C is 1 or 3.
        settings: what may happen.
        draws: (draws, N), one of the two of ``draw_views``.

    Returns:
        (N, H, W, C) float32 in 0..255, not rounded, on the images' device.
    """
    drawn = dict(zip(_DRAWN, draws.to(images_nhwc.device), strict=True))
    # bf16 keeps 8 bits: enough for a network, not for the places and pixels of its input.
    with torch.autocast(images_nhwc.device.type, enabled=False):
        seen = _in_plane(images_nhwc.float(), settings, drawn)
        return _in_colour(seen, settings, drawn).clamp(0.0, 255.0)


def _in_plane(images_nhwc: Tensor, settings: Views, drawn: dict[str, Tensor]) -> Tensor:
    """Crop, flip, blur."""
    count, height, width, channels = images_nhwc.shape
    area = _between(settings.crop_area, drawn["area"])
    low, high = torch.tensor(settings.crop_aspect).log().tolist()
    aspect = torch.exp(low + (high - low) * drawn["aspect"])
    kept_y = (area / aspect).sqrt().clamp(max=1.0)
    kept_x = (area * aspect).sqrt().clamp(max=1.0)
    sigma_px = _between(settings.blur_sigma, drawn["sigma"]) * min(height, width)
    sigma_px = torch.where(drawn["blur"] < settings.blur, sigma_px, 0.0)
    flip_y = drawn["flip_y"] < settings.flip_vertical
    flip_x = drawn["flip_x"] < settings.flip_horizontal
    down = _along(height, kept_y, drawn["y"], flip_y, sigma_px)
    across = _along(width, kept_x, drawn["x"], flip_x, sigma_px)
    rows = down @ images_nhwc.reshape(count, height, width * channels)
    columns = rows.reshape(count, height, width, channels).transpose(1, 2)
    seen = across @ columns.reshape(count, width, height * channels)
    return seen.reshape(count, width, height, channels).transpose(1, 2)


def _along(extent: int, kept: Tensor, place: Tensor, flip: Tensor, sigma_px: Tensor) -> Tensor:
    """(N, extent, extent) which share of each source pixel each output pixel gets; rows sum to 1.

    Bilinear between pixel centres, then a Gaussian that ends at the image's border.
    """
    pixel = torch.arange(extent, dtype=torch.float32, device=kept.device)
    first = (1.0 - kept) * place * extent
    source = first[:, None] + (pixel + 0.5) * kept[:, None] - 0.5
    source = torch.where(flip[:, None], source.flip(1), source).clamp(0.0, extent - 1.0)
    sampled = (1.0 - (source[:, :, None] - pixel).abs()).clamp(min=0.0)
    away = (pixel[:, None] - pixel) / sigma_px.clamp(min=1e-3)[:, None, None]
    blurred = torch.exp(-0.5 * away.square())
    return (blurred / blurred.sum(dim=2, keepdim=True)) @ sampled


def _in_colour(images_nhwc: Tensor, settings: Views, drawn: dict[str, Tensor]) -> Tensor:
    """Brightness, contrast; then saturation, hue and grayscale, where there is colour."""
    changed = drawn["jitter"] < settings.jitter
    brightness = _factor(settings.brightness, drawn["brightness"], changed)
    contrast = _factor(settings.contrast, drawn["contrast"], changed)
    gray = _luma(images_nhwc) * brightness
    shift = ((1.0 - contrast) * gray)[:, None, None, None]
    bright = images_nhwc * (contrast * brightness)[:, None, None, None]
    if images_nhwc.shape[3] == 1:
        return bright + shift
    # Colours turn about gray, so the shift, which is gray, may come after.
    matrix = _chroma(settings, drawn, changed)
    shape = images_nhwc.shape
    return (bright.reshape(shape[0], -1, 3) @ matrix.transpose(1, 2)).reshape(shape) + shift


def _luma(images_nhwc: Tensor) -> Tensor:
    """(N,) mean gray of each image."""
    means = images_nhwc.mean(dim=(1, 2))
    return means[:, 0] if means.shape[1] == 1 else means @ means.new_tensor(_YIQ[0])


def _chroma(settings: Views, drawn: dict[str, Tensor], changed: Tensor) -> Tensor:
    """(N, 3, 3) RGB to RGB: luma stays, the plane of colours is scaled and turned."""
    saturation = _factor(settings.saturation, drawn["saturation"], changed)
    saturation = torch.where(drawn["grayscale"] < settings.grayscale, 0.0, saturation)
    turn = (2.0 * drawn["hue"] - 1.0) * settings.hue * 2.0 * torch.pi
    turn = torch.where(changed, turn, 0.0)
    cos, sin = saturation * turn.cos(), saturation * turn.sin()
    plane = cos.new_zeros(len(cos), 3, 3)
    plane[:, 0, 0] = 1.0
    plane[:, 1, 1], plane[:, 1, 2] = cos, -sin
    plane[:, 2, 1], plane[:, 2, 2] = sin, cos
    to_yiq = cos.new_tensor(_YIQ)
    matrix: Tensor = torch.linalg.inv(to_yiq) @ plane @ to_yiq
    return matrix


def _factor(strength: float, draw: Tensor, changed: Tensor) -> Tensor:
    return torch.where(changed, 1.0 + strength * (2.0 * draw - 1.0), 1.0)


def _between(ends: tuple[float, float], draw: Tensor) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * draw
