"""Any network of timm as a backbone."""

from __future__ import annotations

from typing import Any

import timm
from torch import Tensor, nn

from lineside.contract import InputSpec
from lineside_trainer.errors import ExperimentError
from lineside_trainer.models.backbone import Backbone


class TimmBackbone(Backbone):
    """A convolutional network or a Swin transformer of timm, without its classifier.

    Args:
        name: as timm knows it.
        model_input: image size and channels.
        drop_path: share of residual branches that a step leaves out, where the network has them.
        settings: of ``timm.create_model`` besides.

    Raises:
        ExperimentError: timm has no such network.
    """

    net: Any

    def __init__(
        self, name: str, model_input: InputSpec, *, drop_path: float = 0.0, **settings: Any
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            raise ExperimentError(f"model.arch: {name!r} is unknown")
        if drop_path:
            settings["drop_path_rate"] = drop_path
        self.net = timm.create_model(
            name, pretrained=False, in_chans=model_input.channels, num_classes=0, **settings
        )
        self.width = int(self.net.head_hidden_size)

    def feature_map(self, images_nchw: Tensor) -> Tensor:
        return self.as_map(self.net.forward_features(images_nchw))

    def feature(self, images_nchw: Tensor) -> Tensor:
        feature: Tensor = self.net.forward_head(
            self.net.forward_features(images_nchw), pre_logits=True
        )
        return feature

    def layers(self) -> list[list[nn.Parameter]]:
        children = [list(child.parameters()) for child in self.net.children()]
        return [parameters for parameters in children if parameters]

    @property
    def watched(self) -> nn.Module:
        last = self.net.feature_info[-1]["module"]
        module: nn.Module = self.net.get_submodule(last)
        return module

    def as_map(self, activation: Tensor) -> Tensor:
        if activation.shape[-1] == self.net.num_features != activation.shape[1]:
            return activation.permute(0, 3, 1, 2)  # Swin keeps channels last
        return activation
