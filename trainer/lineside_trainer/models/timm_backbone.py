"""Any network of timm that gives a feature map: convolutional networks and Swin transformers."""

from __future__ import annotations

import difflib
import functools
import inspect
from typing import Any, Final

import timm
import torch
from timm.models import get_pretrained_cfg, group_parameters
from torch import Tensor, nn

from lineside.contract import InputSpec
from lineside_trainer.errors import ExperimentError
from lineside_trainer.models.backbone import Backbone

# Own names: the papers', for networks whose timm name says more than anybody wants to type.
ALIASES: Final[dict[str, str]] = {
    # Fernández-Llorca et al. 2024, sec. 4.1: "Swin-T" with window 12 and 1,024 features: Swin-B.
    "swin_base": "swin_base_patch4_window12_384",
    # Not of either paper: a smaller substitute, for machines that Swin-B is too large for.
    "swin_tiny": "swin_tiny_patch4_window7_224",
}
_PROBED_IMAGES: Final = 2


def timm_name(arch: str) -> str:
    """What timm calls it; a pre-trained tag (`resnet50.a1_in1k`) stays."""
    return ALIASES.get(arch, arch)


def check_timm(arch: str, size_hw: tuple[int, int]) -> None:
    """Refuse what cannot be built, before any image is read.

    The network is laid out without memory (torch's meta device) and run once.

    Raises:
        ExperimentError: timm has no such network, it gives no map, or the image is too small.
    """
    if not timm.is_model(timm_name(arch)):
        known = difflib.get_close_matches(arch, [*ALIASES, *timm.list_models()], n=3)
        nearest = f" (nearest: {', '.join(known)})" if known else ""
        raise ExperimentError(
            f"model.arch: {arch!r} is unknown; there are vit_tiny, vit_small, vit_base, sam_cnn, "
            f"xray_cnn, swin_tiny, swin_base and timm's convolutional networks{nearest}"
        )
    if _fits(arch, size_hw):
        return
    if not _fits(arch, _native_hw(arch)):
        raise ExperimentError(
            f"model.arch: {arch!r} of timm gives no feature map; take a convolutional or Swin "
            "network of timm's, or vit_tiny, vit_small, vit_base"
        )
    height, width = size_hw
    least_px = _least_px(arch)
    too_small = min(size_hw) < least_px
    raise ExperimentError(
        f"data.image_size_hw: {height}x{width} px (height x width) "
        f"{'is too small for' if too_small else 'does not suit'} {arch}; it needs "
        f"{least_px}x{least_px}{' at least' if too_small else ', or multiples of it'}"
    )


class TimmBackbone(Backbone):
    """A network of timm without its classifier.

    Where layers stand between the pooled map and the classifier (VGG, MobileNet), a feature has
    more values than the map has channels.

    Args:
        arch: one of `ALIASES`, or a name of timm's.
        model_input: image size and channels.
        drop_path: share of residual branches that a step leaves out.

    Raises:
        ExperimentError: timm has no such network, or `drop_path` is asked of one without branches.
    """

    net: Any

    def __init__(self, arch: str, model_input: InputSpec, *, drop_path: float = 0.0) -> None:
        super().__init__()
        check_timm(arch, model_input.size_hw)
        self.net = _create(arch, model_input.size_hw, model_input.channels, drop_path=drop_path)
        self.width = int(self.net.head_hidden_size)

    def feature_map(self, images_nchw: Tensor) -> Tensor:
        return self.as_map(self.net.forward_features(images_nchw))

    def feature(self, images_nchw: Tensor) -> Tensor:
        activation = self.net.forward_features(images_nchw)
        feature: Tensor = self.net.forward_head(activation, pre_logits=True)
        return feature

    @property
    def depth(self) -> int:
        return len(self.net.feature_info)

    def map_after(self, images_nchw: Tensor, stages: int) -> Tensor:
        """What lies behind the stage is not computed, and not in an exported program.

        Raises:
            ExperimentError: timm has no way into the middle of this network.
        """
        if stages == self.depth:
            return self.feature_map(images_nchw)
        if not hasattr(self.net, "forward_intermediates"):
            raise ExperimentError(
                "train.anomaly.memory_layer: timm gives no map from the middle of this network; "
                "give 1.0 for the last, or take another model.arch"
            )
        taken: list[Tensor] = self.net.forward_intermediates(
            images_nchw,
            indices=[stages - 1],
            output_fmt="NCHW",
            stop_early=True,
            intermediates_only=True,
        )
        return taken[0]

    def layers(self) -> list[list[nn.Parameter]]:
        """Stage by stage, as timm groups them."""
        named = dict(self.net.named_parameters())
        try:
            groups = group_parameters(self.net, self.net.group_matcher(coarse=True))
        except (AttributeError, AssertionError):  # a few networks were never grouped
            children = [list(child.parameters()) for child in self.net.children()]
            return [parameters for parameters in children if parameters]
        return [[named[name] for name in groups[index]] for index in sorted(groups)]

    @property
    def watched(self) -> nn.Module:
        """The last stage."""
        return self._stage(-1)

    @property
    def early(self) -> nn.Module:
        """The second stage."""
        return self._stage(min(1, len(self.net.feature_info) - 1))

    def _stage(self, index: int) -> nn.Module:
        module: nn.Module = self.net.get_submodule(self.net.feature_info[index]["module"])
        return module

    def as_map(self, activation: Tensor) -> Tensor:
        return activation.permute(0, 3, 1, 2) if _channels_last(self.net) else activation


def _channels_last(net: nn.Module) -> bool:
    """Swin's activations are (N, h, w, channels)."""
    return str(getattr(net, "output_fmt", "NCHW")) == "NHWC"


def _create(arch: str, size_hw: tuple[int, int], channels: int, *, drop_path: float = 0.0) -> Any:
    name, settings = timm_name(arch), dict[str, Any]()
    config = get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        settings["img_size"] = size_hw  # windows and positions depend on it
    if _has_branches(name):
        settings["drop_path_rate"] = drop_path  # 0 too: some have another default
    elif drop_path:
        raise ExperimentError(
            f"train.drop_path: {arch} has no residual branches to leave out; leave it at 0"
        )
    return timm.create_model(name, pretrained=False, in_chans=channels, num_classes=0, **settings)


@functools.lru_cache(maxsize=64)
def _has_branches(name: str) -> bool:
    """Whether timm's class knows drop path; the class is known by its instances alone."""
    with torch.device("meta"):
        net = timm.create_model(name, pretrained=False, num_classes=0)
    return "drop_path_rate" in inspect.signature(type(net).__init__).parameters


@functools.lru_cache(maxsize=64)
def _fits(arch: str, size_hw: tuple[int, int]) -> bool:
    """Whether every stage still sees one position, and the last gives a map.

    A padded network would run on less, and its last stages see nothing but padding.
    """
    try:
        with torch.device("meta"), torch.no_grad():
            net = _create(arch, size_hw, channels=1).eval()
            activation = net.forward_features(torch.zeros(_PROBED_IMAGES, 1, *size_hw))
            feature = net.forward_head(activation, pre_logits=True)
    # timm and torch name no common root for an image that a layer cannot take.
    except (RuntimeError, ValueError, AssertionError, ZeroDivisionError):
        return False
    if not isinstance(activation, Tensor) or activation.ndim != 4:
        return False
    shape = activation.movedim(-1, 1).shape if _channels_last(net) else activation.shape
    patch_px = max(getattr(getattr(net, "patch_embed", None), "patch_size", (1,)))
    return (
        shape[:2] == (_PROBED_IMAGES, net.num_features)
        and feature.shape == (_PROBED_IMAGES, net.head_hidden_size)
        and min(size_hw) >= net.feature_info[-1]["reduction"]
        and not any(side_px % patch_px for side_px in size_hw)  # or timm leaves out the rest
    )


def _native_hw(arch: str) -> tuple[int, int]:
    """What it was made for."""
    config = get_pretrained_cfg(timm_name(arch))
    return (224, 224) if config is None else (config.input_size[1], config.input_size[2])


def _least_px(arch: str) -> int:
    """The least square that fits, of the multiples of 16."""
    largest_px = max(_native_hw(arch))
    sides_px = range(16, largest_px, 16)
    return next((side for side in sides_px if _fits(arch, (side, side))), largest_px)
