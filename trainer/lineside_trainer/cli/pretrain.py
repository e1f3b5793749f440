"""`lineside pretrain`: learn from images without labels."""

from __future__ import annotations

import click

from lineside_trainer.cli.settings import Flags, shared_options


@click.command()
@click.option("--method", help="How; only mae so far.")
@click.option("--mask-ratio", type=float, help="Share of patches that is hidden (mae).")
@click.option(
    "--transductive",
    is_flag=True,
    help="Show it validation and test images too; marks every report.",
)
@shared_options
def pretrain(
    flags: Flags, method: str | None, mask_ratio: float | None, transductive: bool
) -> None:
    """Learn from images alone (masked autoencoder), on the training fold only.

    \b
    Example:
      lineside pretrain --data joints --group part --method mae --arch vit_tiny --out runs/pre

    The run's folder gets best.pt, backbone.pt, metrics.csv, report.html, result.json and the
    effective experiment.toml. A run that was stopped goes on with --resume.
    """
    from lineside_trainer.cli.settings import effective_experiment, tell

    own = {
        "method": method,
        "transductive": transductive or None,
        "mae": {"mask_ratio": mask_ratio},
    }
    experiment = effective_experiment(flags, "pretrain", own)
    from lineside_trainer.pretraining import pretrain as run

    result = run(experiment, flags.out, resume=flags.resume)
    counts, loss = result.run.counts, result.run.validation
    rows = {
        "images": f"{counts['pre-training']} of {result.run.images} learnt from",
        "masked MSE": f"{loss.first:.4g} → {loss.best:.4g} (epoch {loss.best_epoch + 1})",
        "speed": f"{result.run.images_per_s:.0f} images/s, {result.run.seconds:.0f} s",
    }
    tell(flags, result, rows, result.run)
