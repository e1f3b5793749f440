"""Raw pixels to raw outputs: normalisation, backbone, and the head that a task puts on it."""

from __future__ import annotations

from torch import Tensor, nn

from lineside_trainer.models.backbone import Backbone
from lineside_trainer.models.normalise import Normalise


class Headed(nn.Module):
    """What tasks make their exported network of.

    Args:
        normalise: of the training fold.
        backbone: pixels to features.
        outputs: values an image.
        head_width: of the head's hidden layer, 0 for one linear layer; None takes what the
            backbone's paper has.
    """

    def __init__(
        self, normalise: Normalise, backbone: Backbone, *, outputs: int, head_width: int | None
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.backbone = backbone
        hidden = backbone.head_width if head_width is None else head_width
        last = nn.Linear(hidden or backbone.width, outputs)
        nn.init.trunc_normal_(last.weight, std=0.02)
        nn.init.zeros_(last.bias)
        self.head: nn.Module = last
        if hidden:
            self.head = nn.Sequential(nn.Linear(backbone.width, hidden), nn.GELU(), last)

    def raw(self, images_nhwc: Tensor) -> Tensor:
        """(N, H, W, C) uint8 to (N, outputs) float32."""
        values: Tensor = self.head(self.backbone.feature(self.normalise(images_nhwc)))
        return values.float()

    def layers(self) -> list[list[nn.Parameter]]:
        """Every parameter once, from the input to the output; the head is the last layer."""
        return [*self.backbone.layers(), list(self.head.parameters())]
