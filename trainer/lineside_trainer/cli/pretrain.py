"""`lineside pretrain`: learn from images without labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineside_trainer.cli.settings import Flags, shared_options

if TYPE_CHECKING:
    from lineside_trainer.experiment import Experiment


@click.command()
@click.option("--method", help="How: mae, simmim or simsiam.")
@click.option("--mask-ratio", type=float, help="Share of patches that is hidden (mae, simmim).")
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    help="Folder of a finished `lineside pretrain` to go on from, on these images.",
)
@click.option(
    "--transductive",
    is_flag=True,
    help="Show it validation and test images too; marks every report.",
)
@shared_options
def pretrain(
    flags: Flags,
    method: str | None,
    mask_ratio: float | None,
    init: Path | None,
    transductive: bool,
) -> None:
    """Learn from images alone, on the training fold only.

    Methods: mae completes hidden patches (ViT), simmim too (ViT, Swin), simsiam brings two views
    of an image together (any network; ResNet-50 where --arch says nothing). Their settings are
    those of experiment.toml, [pretrain.mae] and so on; see docs/training.md.

    \b
    Example:
      lineside pretrain --data joints --group part --method mae --arch vit_tiny --out runs/pre

    The run's folder gets best.pt, backbone.pt, metrics.csv, report.html, result.json and the
    effective experiment.toml. A run that was stopped goes on with --resume.
    """
    from lineside_trainer.cli.settings import effective_experiment, tell

    _check_ratio(mask_ratio)
    own = {
        "method": method,
        "init": str(init.resolve()) if init else None,
        "transductive": transductive or None,
        "mae": {"mask_ratio": mask_ratio},
        "simmim": {"mask_ratio": mask_ratio},
    }
    experiment = effective_experiment(flags, "pretrain", own)
    if mask_ratio is not None and experiment.pretrain.method == "simsiam":
        raise click.UsageError("--mask-ratio: simsiam hides nothing; leave it away")
    if experiment.run.seeds > 1 or experiment.data.split_seeds:
        _pretrain_seeds(flags, experiment)
        return
    from lineside_trainer.pretraining import pretrain as run

    result = run(experiment, flags.out, resume=flags.resume)
    counts, loss = result.run.counts, result.run.validation
    rows = {
        "images": f"{counts['pre-training']} of {result.run.images} learnt from",
        result.judged_by: f"{loss.first:.4g} → {loss.best:.4g} (epoch {loss.best_epoch + 1})",
        "speed": f"{result.run.images_per_s:.0f} images/s, {result.run.seconds:.0f} s",
    }
    tell(result, rows, result.run, out=flags.out, as_json=flags.as_json)


def _check_ratio(mask_ratio: float | None) -> None:
    """Here, because the option sets both methods' and must not be told by the other one's name."""
    from lineside_trainer.errors import ExperimentError

    if mask_ratio is not None and not 0.0 < mask_ratio < 1.0:
        raise ExperimentError(
            f"--mask-ratio (mask_ratio): {mask_ratio:g} leaves nothing hidden or nothing to see; "
            "give a share above 0 and below 1, e.g. 0.75"
        )


def _pretrain_seeds(flags: Flags, experiment: Experiment) -> None:
    from lineside_trainer.cli.settings import tell
    from lineside_trainer.seeds import pretrain_seeds
    from lineside_trainer.telling.seeds_report import show_spread

    result = pretrain_seeds(experiment, flags.out, resume=flags.resume)
    rows = {
        f"{result.judged_by} of the kept epochs": show_spread(result.validation),
        "runs": ", ".join(run.folder for run in result.runs),
    }
    tell(result, rows, result, out=flags.out, as_json=flags.as_json)
