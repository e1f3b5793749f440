"""`lineside slim`: a finished run's network with fewer heads and hidden units, tuned again."""

from __future__ import annotations

from pathlib import Path

import click

from lineside_trainer.cli.settings import Flags, shared_options


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--heads", type=click.IntRange(min=1), help="Attention heads of each block that stay."
)
@click.option(
    "--mlp",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    help="Share of each block's hidden units that stays, e.g. 0.5.",
)
@click.option(
    "--teacher",
    type=click.Path(path_type=Path),
    help="A finished run to learn from beside the labels; RUN itself will do.",
)
@shared_options
def slim(
    flags: Flags, run: Path, heads: int | None, mlp: float | None, teacher: Path | None
) -> None:
    """Cut a ViT that `lineside train` left in RUN to its most important parts and tune it again.

    \b
    Example:
      lineside slim runs/joint --mlp 0.5 --out runs/joint-slim

    Data, split, target and all other settings are RUN's, but for a fifth of its epochs and of its
    learning rate. The folder gets what `lineside train` leaves, its own candidate included.
    """
    from lineside_trainer.cli.settings import effective_experiment
    from lineside_trainer.cli.train import run_training

    own = {
        "slim": {"run": str(run.resolve())},
        "teacher": {"run": str(teacher.resolve()) if teacher else None},
    }
    model = {"heads": heads, "mlp_share": mlp}
    run_training(flags, effective_experiment(flags, "train", own, model=model))
