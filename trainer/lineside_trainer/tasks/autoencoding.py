"""How an autoencoder learns: ELBO (Ulger et al., eq. 1) and gradient constraint (eq. 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lineside_trainer.experiment import AnomalySettings
from lineside_trainer.learning.learner import Learner
from lineside_trainer.models.autoencoder import Autoencoder, draw_codes, scale_pixels
from lineside_trainer.models.elbo import divergences, reconstruction_errors
from lineside_trainer.models.gradcon import FLOOR


class AutoencoderLearner(Learner):
    """Minimises J = L + alpha * L_grad with L = error + beta * divergence.

    L_grad compares this batch's gradient of the error, by each of the decoder's weights, with the
    mean of dJ over all earlier steps. That mean is gathered with alpha 0 too: the GradCon score of
    a network that learnt without the constraint needs it. The first step has none to compare with.

    What `beta` weighs depends on `reduction`, see `models.elbo.reduce_units`.

    Args:
        autoencoder: changed in place.
        settings: `beta`, `reduction` and `alpha` count; a CAE has no divergence for beta to weigh.
    """

    alone = "GradCon averages the gradients of whole batches"

    def __init__(self, autoencoder: Autoencoder, settings: AnomalySettings) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self._beta, self._alpha = settings.beta, settings.alpha
        self._reduction = settings.reduction
        self._judged = _Judged()

    def loss(
        self,
        images_nhwc: Tensor,
        targets: Tensor,  # noqa: ARG002
        generator: torch.Generator,
    ) -> Tensor:
        """J of eq. 4."""
        errors, divergence = self._terms(images_nhwc, generator)
        error = errors.mean()
        loss = error + self._beta * divergence.mean()
        if self._alpha > 0.0 and self.autoencoder.training_gradients.gathered:
            loss = loss + self._alpha * self._gradient_loss(error)
        return loss

    @torch.no_grad()
    def judge(
        self,
        images_nhwc: Tensor,
        targets: Tensor,  # noqa: ARG002
        generator: torch.Generator,
    ) -> Tensor:
        """(N,) L, of the same draws every time; the constraint is a means and not the end."""
        errors, divergence = self._terms(images_nhwc, generator)
        self._judged.add(errors, divergence)
        return errors + self._beta * divergence

    def layers(self) -> Sequence[Sequence[nn.Parameter]]:
        return self.autoencoder.layers()

    def after_backward(self) -> None:
        """Gather dJ by the decoder's weights, before anything clips it."""
        gradients = [weight.grad for weight in self._weights()]
        self.autoencoder.training_gradients.add([g for g in gradients if g is not None])

    def vitals(self) -> dict[str, float]:
        """Both terms of the judged loss: a divergence of 0 says that the posterior collapsed."""
        found, self._judged = self._judged, _Judged()
        return found.means(with_divergence=self.autoencoder.variational)

    def _terms(self, images_nhwc: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Error and divergence of each image, (N,) float32; a CAE's divergence is 0."""
        images = scale_pixels(images_nhwc)
        latent = self.autoencoder.encode(images)
        shown = self.autoencoder.decode(draw_codes(latent, generator))
        errors = reconstruction_errors(shown, images, self._reduction)
        if latent.log_variance is None:
            return errors, torch.zeros_like(errors)
        return errors, divergences(latent, self._reduction)

    def _gradient_loss(self, error: Tensor) -> Tensor:
        """L_grad, () float32, that can be differentiated once more."""
        gradients = torch.autograd.grad(error, self._weights(), create_graph=True)
        means = self.autoencoder.training_gradients.means()
        cosines = [
            F.cosine_similarity(ours.flatten(), mean.flatten(), dim=0, eps=FLOOR)
            for ours, mean in zip(gradients, means, strict=True)
        ]
        return -torch.stack(cosines).mean()

    def _weights(self) -> list[nn.Parameter]:
        return [layer.conv.weight for layer in self.autoencoder.decoder_layers()]


class _Judged:
    """Sums over the images of a judging."""

    def __init__(self) -> None:
        self._images = 0
        self._error = 0.0
        self._divergence = 0.0

    def add(self, errors: Tensor, divergence: Tensor) -> None:
        self._images += len(errors)
        self._error += float(errors.double().sum())
        self._divergence += float(divergence.double().sum())

    def means(self, *, with_divergence: bool) -> dict[str, float]:
        images = max(1, self._images)
        told = {"recon": self._error / images}
        return told | ({"kl": self._divergence / images} if with_divergence else {})
