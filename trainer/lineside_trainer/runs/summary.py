"""What every run says of itself, gathered once."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from torch import nn

from lineside_trainer.experiment import Experiment, FitSettings
from lineside_trainer.learning.fit import FitResult
from lineside_trainer.prepared import Prepared
from lineside_trainer.runs.provenance import command, machine, versions
from lineside_trainer.runs.results import Ends, Run


def summarise(
    prepared: Prepared,
    layers: Sequence[Sequence[nn.Parameter]],
    fitted: FitResult,
    *,
    experiment: Experiment,
    settings: FitSettings,
    counts: dict[str, int],
    notes: tuple[str, ...],
    transductive: bool,
) -> Run:
    """Gather.

    Args:
        prepared: the data.
        layers: every trained parameter once.
        fitted: how the fit went.
        experiment: for its seeds.
        settings: of the fit.
        counts: images by use.
        notes: besides those of the split.
        transductive: see `results.Run`.
    """
    rows = fitted.rows
    losses = [row.training_loss for row in rows]
    judged = [row.validation for row in rows]
    return Run(
        images=len(prepared.table),
        counts=counts,
        rejected=prepared.unused,
        notes=(*prepared.split.notes, *notes, *_early_stop(fitted, settings)),
        transductive=transductive,
        epochs=len(rows),
        batch_size=settings.batch_size,
        training_loss=_ends(losses, losses.index(min(losses))),
        validation=_ends(judged, fitted.best_epoch),
        seconds=sum(row.seconds for row in rows),
        images_per_s=statistics.median(row.images_per_s for row in rows),
        parameters=sum(p.numel() for layer in layers for p in layer),
        device=fitted.device,
        precision=fitted.precision,
        seed=experiment.run.seed,
        split_seed=experiment.data.split_seed,
        data_sha256=prepared.digest,
        versions=versions(),
        machine=machine(fitted.device),
        command=command(),
    )


def _early_stop(fitted: FitResult, settings: FitSettings) -> tuple[str, ...]:
    done = len(fitted.rows)
    if done == settings.epochs:
        return ()
    share = fitted.rows[-1].lr / settings.lr
    ends = f"; its cosine would have ended at epoch {settings.epochs}"
    return (
        f"stopped early after epoch {done} of {settings.epochs}: none was better since epoch "
        f"{fitted.best_epoch + 1} (patience {settings.patience}). The learning rate stood at "
        f"{share:.0%} of its highest{ends if settings.schedule == 'cosine' else ''}",
    )


def _ends(values: list[float], best_epoch: int) -> Ends:
    return Ends(first=values[0], last=values[-1], best=values[best_epoch], best_epoch=best_epoch)
