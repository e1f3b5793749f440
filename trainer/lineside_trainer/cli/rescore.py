"""`lineside rescore`: another score, or another limit, of an autoencoder that has learnt."""

from __future__ import annotations

from pathlib import Path

import click

from lineside.cli.options import json_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--score",
    type=click.Choice(["recon", "elbo", "gradcon"]),
    help="What the exported graph gives. Default: RUN's.",
)
@click.option("--gamma", type=float, help="Weight of the gradients in gradcon. Default: RUN's.")
@click.option("--limit", type=float, help="Scores beyond it are NOT_OK; else validation chooses.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of this run.")
@click.option("--resume", is_flag=True, help="Leave a finished run in --out as it is.")
@json_option
def rescore(
    run: Path,
    score: str | None,
    gamma: float | None,
    limit: float | None,
    out: Path,
    resume: bool,
    as_json: bool,
) -> None:
    """Judge the autoencoder in RUN by another of its scores, and write that one's candidate.

    \b
    Example:
      lineside rescore runs/joints --score recon --out runs/joints-recon

    RUN is a finished `lineside train --task anomaly`; its images must be where they were. Nothing
    is learnt: the limit, the report and the candidate are made anew.
    """
    from lineside_trainer.anomaly.learnt import rescored
    from lineside_trainer.cli.train import tell_training
    from lineside_trainer.tuning import train

    experiment = rescored(run, score=score, gamma=gamma, limit=limit)
    tell_training(train(experiment, out, resume=resume), out=out, as_json=as_json)
