"""Where test images lie in an autoencoder's latent space: t-SNE, as figs. 5 and 6 of Ulger et al.

van der Maaten & Hinton 2008. It shows neighbours, not distances, and it finds clusters in noise
too: a picture to look at, never a figure to report.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from lineside_trainer.evaluate.anomaly_figures import BAD_COLOUR, GOOD_COLOUR
from lineside_trainer.evaluate.figures import save_canvas
from lineside_trainer.evaluate.report import Picture

FloatArray = NDArray[np.float64]

PERPLEXITY: Final = 5
"""Sec. V: "since the dataset is small"."""

FEWEST: Final = 3 * PERPLEXITY + 1
"""Images: each looks at three times as many neighbours as the perplexity (van der Maaten 2014,
sec. 4.1)."""

MOST: Final = 1000
"""Images; more take minutes a run, and hide each other in the picture."""

MOST_RUNS: Final = 100
"""As many as in sec. V."""


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Images in the plane.

    Attributes:
        points_xy: (N, 2) in 0..1 on either axis.
        divergence: Kullback–Leibler, of the run that was kept.
        runs: of which it was the lowest.
    """

    points_xy: FloatArray
    divergence: float
    runs: int


@dataclass(frozen=True, kw_only=True)
class ToldLatents:
    """For the report: a picture, or a note why there is none."""

    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()


def embed_latents(latents: FloatArray, *, runs: int = 5, seed: int = 0) -> Embedding:
    """The embedding of the lowest divergence of several runs, scaled to 0..1.

    Args:
        latents: (N, D) means of the posterior, N at least ``FEWEST``.
        runs: each from another seed, 1 to ``MOST_RUNS``.
        seed: of the first; the next ones follow it.

    Raises:
        ValueError: too few images, or a number of runs that is none.
    """
    if len(latents) < FEWEST:
        raise ValueError(f"{len(latents)} images; perplexity {PERPLEXITY} takes {FEWEST}")
    if not 1 <= runs <= MOST_RUNS:
        raise ValueError(f"runs: {runs}; 1 to {MOST_RUNS}")
    from sklearn.manifold import TSNE  # a second, that only this figure need wait for

    best, lowest = np.zeros((len(latents), 2)), np.inf
    for run in range(runs):
        # Random starts: from the principal components, all runs would find the same.
        method = TSNE(perplexity=PERPLEXITY, init="random", random_state=seed + run)
        points = method.fit_transform(np.asarray(latents, dtype=np.float32))
        if method.kl_divergence_ < lowest:
            best, lowest = points.astype(np.float64), float(method.kl_divergence_)
    extent = np.ptp(best, axis=0)
    scaled = (best - best.min(axis=0)) / np.where(extent > 0.0, extent, 1.0)
    return Embedding(points_xy=scaled, divergence=lowest, runs=runs)


def draw_latents(
    path: Path,
    latents: FloatArray,
    bad: NDArray[np.bool_],
    *,
    runs: int = 5,
    seed: int = 0,
    samples: str = "test",
) -> ToldLatents:
    """Good images blue, bad ones red; of too few images a note instead, of too many a share.

    Args:
        path: of the PNG.
        latents: (N, D) finite means of the posterior.
        bad: (N,) bool.
        runs: of t-SNE, 1 to ``MOST_RUNS``.
        seed: of the runs, and of which images are drawn.
        samples: which sample set it is.

    Raises:
        ValueError: a number of runs that is none.
        StorageError: the disk is full, read-only or gone.
    """
    count = len(latents)
    if count < FEWEST:
        note = f"no picture of the latent space: t-SNE with perplexity {PERPLEXITY} takes {FEWEST} "
        return ToldLatents(notes=(f"{note}images, and there are {count} {samples} images",))
    shown = np.sort(np.random.default_rng(seed).permutation(count)[:MOST])
    found = embed_latents(latents[shown], runs=runs, seed=seed)
    _draw(path, found.points_xy, bad[shown])
    of_all = "" if len(shown) == count else f"{len(shown)} of {count} "
    caption = (
        f"Latent means of {of_all}{samples} images by t-SNE (perplexity {PERPLEXITY}; the lowest "
        f"KL divergence, {found.divergence:.3f}, of {runs} runs; scaled to 0..1): neighbours mean "
        "something, distances between clusters do not."
    )
    return ToldLatents(pictures=(Picture(file=path, caption=caption),))


def _draw(path: Path, points_xy: FloatArray, bad: NDArray[np.bool_]) -> None:
    canvas = Canvas(figsize=(4.2, 4.2), layout="constrained")
    axes = canvas.subplots()
    for kind, colour, name in ((~bad, GOOD_COLOUR, "good"), (bad, BAD_COLOUR, "bad")):
        x, y = points_xy[kind].T
        axes.scatter(x, y, s=14, alpha=0.7, color=colour, linewidths=0, label=f"{name} ({len(x)})")
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_aspect("equal")
    axes.tick_params(labelsize=7)
    canvas.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    save_canvas(canvas, path)
