"""The two convolutional baselines of Röhrich et al., table 4, that timm does not have.

What is public of them: their names, their parameter counts (4.2 and 8.7 million, table 4), that the
first was made for acoustic images of solder joints and the second for X-ray images of them. The
papers behind them (Zippelius et al. 2022, ESTC; Zhang et al. 2022, Complex & Intelligent Systems 8)
give no layer list that we could read, so every layer here is our choice: plain stages as in VGG
(Simonyan and Zisserman 2014), with batch norm and a mean over positions instead of wide dense
layers, so that any image size has the same count. The widths follow from the counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn

from lineside_trainer.errors import ExperimentError
from lineside_trainer.models.backbone import Backbone


@dataclass(frozen=True, kw_only=True)
class CnnShape:
    """Channels of each stage; the picture is halved between stages."""

    widths: tuple[int, ...]

    @property
    def least_px(self) -> int:
        """The shortest side of which the last stage still sees one position."""
        return int(2 ** (len(self.widths) - 1))


CNNS: Final[dict[str, CnnShape]] = {
    # With a head of one value: 4.18 M and 8.66 M (64x64x1), 0.4 and 0.5 % below table 4.
    "sam_cnn": CnnShape(widths=(32, 64, 128, 256, 464)),
    "xray_cnn": CnnShape(widths=(48, 96, 192, 384, 648)),
}


def check_cnn(arch: str, size_hw: tuple[int, int]) -> None:
    """Refuse what cannot be built, before any image is read.

    Raises:
        ExperimentError: an image that the last halving leaves nothing of.
    """
    least_px = CNNS[arch].least_px
    if min(size_hw) < least_px:
        height, width = size_hw
        raise ExperimentError(
            f"data.image_size_hw: {height}x{width} px (height x width) is too small for {arch}; "
            f"it needs {least_px}x{least_px} at least"
        )


class CnnBackbone(Backbone):
    """Stages of two 3x3 convolutions, each with batch norm and ReLU, and a 2x2 maximum between.

    Args:
        arch: one of `CNNS`.
        channels: of the image.
        drop_path: must be 0; there are no residual branches.

    Raises:
        ExperimentError: another `drop_path`.
    """

    net: nn.Sequential

    def __init__(self, arch: str, *, channels: int, drop_path: float = 0.0) -> None:
        super().__init__()
        if drop_path:
            raise ExperimentError(
                f"train.drop_path: {arch} has no residual branches to leave out; leave it at 0"
            )
        shape = CNNS[arch]
        inputs = (channels, *shape.widths[:-1])
        stages = [_stage(*pair) for pair in zip(inputs, shape.widths, strict=True)]
        self.net = nn.Sequential(stages[0])
        for stage in stages[1:]:
            stage.insert(0, nn.MaxPool2d(2))
            self.net.append(stage)
        self.width = shape.widths[-1]

    def feature_map(self, images_nchw: Tensor) -> Tensor:
        activation: Tensor = self.net(images_nchw)
        return activation

    def feature(self, images_nchw: Tensor) -> Tensor:
        return self.feature_map(images_nchw).mean(dim=(2, 3))

    @property
    def depth(self) -> int:
        return len(self.net)

    def map_after(self, images_nchw: Tensor, stages: int) -> Tensor:
        activation: Tensor = self.net[:stages](images_nchw)
        return activation

    def layers(self) -> list[list[nn.Parameter]]:
        """A stage is a layer."""
        return [list(stage.parameters()) for stage in self.net]

    @property
    def watched(self) -> nn.Module:
        """The last stage."""
        return self.net[-1]

    @property
    def early(self) -> nn.Module:
        """The second stage."""
        return self.net[1]

    def as_map(self, activation: Tensor) -> Tensor:
        return activation


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        conv = nn.Conv2d(channels, outputs, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)
