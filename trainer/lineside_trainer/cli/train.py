"""`lineside train`: tune with labels, test, and write a candidate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineside_trainer.cli.settings import Flags, shared_options

if TYPE_CHECKING:
    from lineside_trainer.experiment import Experiment
    from lineside_trainer.runs.results import TrainResult


@click.command()
@click.option("--task", help="What is learnt: regression, classification or anomaly.")
@click.option("--target", help="Column of labels.csv to learn; `class` for a folder a class.")
@click.option(
    "--good",
    multiple=True,
    help="Classes of good parts, by comma; else the one called good, ok, free or normal.",
)
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    help="Folder of a finished `lineside pretrain`; its split and network are taken over.",
)
@click.option(
    "--teacher",
    type=click.Path(path_type=Path),
    help="Folder of a finished `lineside train` to learn from beside the labels.",
)
@click.option("--probe", is_flag=True, help="Only a linear layer learns; the network is frozen.")
@click.option("--label-share", type=float, help="Share of the training labels that may be used.")
@click.option(
    "--score",
    type=click.Choice(["recon", "elbo", "gradcon"]),
    help="Of an autoencoder (--task anomaly): what the exported graph gives. Default: gradcon.",
)
@click.option("--beta", type=float, help="Of a beta_vae: weight of the KL divergence. Default: 3.")
@click.option(
    "--memory-patches",
    type=int,
    help="Of any other network (--task anomaly): good patches that are kept. Default: 2000.",
)
@click.option("--limit", type=float, help="Propose a rule: scores beyond it are NOT_OK.")
@click.option("--worse", type=click.Choice(["higher", "lower"]), help="The bad end of the scale.")
@click.option("--unit", help='Of the target, e.g. "mm".')
@click.option("--product", help="What kind of part is judged; else the data folder's name.")
@shared_options
def train(
    flags: Flags,
    task: str | None,
    target: str | None,
    good: tuple[str, ...],
    init: Path | None,
    teacher: Path | None,
    probe: bool,
    label_share: float | None,
    score: str | None,
    beta: float | None,
    memory_patches: int | None,
    limit: float | None,
    worse: str | None,
    unit: str | None,
    product: str | None,
) -> None:
    """Tune a network with labels, test it, and write the candidate for `lineside export`.

    \b
    Example:
      lineside train --data joints --task regression --target delta_b_max --init runs/pre \\
          --limit 0.2 --out runs/joint
      lineside train --data tiles --task classification --target defect --good free \\
          --limit 0.5 --out runs/tiles
      lineside train --data joints --task anomaly --target class --good normal \\
          --init runs/pre --out runs/unlike

    The last learns from good parts alone; without --init it trains a beta-VAE.

    The run's folder gets report.html, result.json, metrics.csv, candidate/ and the effective
    experiment.toml. A run that was stopped goes on with --resume.
    """
    from lineside_trainer.cli.settings import effective_experiment

    named = [name.strip() for words in good for name in words.split(",") if name.strip()]
    own = {
        "task": task,
        "target": target,
        "good": named or None,
        "init": str(init.resolve()) if init else None,
        "teacher": {"run": str(teacher.resolve()) if teacher else None},
        "probe": probe or None,
        "label_share": label_share,
        "anomaly": {"score": score, "beta": beta, "memory_patches": memory_patches},
        "limit": limit,
        "worse": worse,
        "unit": unit,
        "product": product,
    }
    run_training(flags, effective_experiment(flags, "train", own))


def run_training(flags: Flags, experiment: Experiment) -> None:
    """Train, once or with several seeds, and print what was found."""
    if experiment.run.seeds > 1 or experiment.data.split_seeds:
        _train_seeds(flags, experiment)
        return
    from lineside_trainer.tuning import train as run

    result = run(experiment, flags.out, resume=flags.resume)
    tell_training(result, out=flags.out, as_json=flags.as_json)


def tell_training(result: TrainResult, *, out: Path, as_json: bool) -> None:
    """Print what a run found."""
    from lineside_trainer.cli.settings import tell
    from lineside_trainer.telling.tuning_report import show_figure, show_metric

    loss = result.run.training_loss
    rows = {
        "images": ", ".join(f"{name} {count}" for name, count in result.run.counts.items()),
        "training loss": f"{loss.first:.4g} → {loss.last:.4g}",
        **{f"test {show_metric(name)}": show_figure(f) for name, f in result.test.items()},
        result.baseline_name: show_figure(result.baseline[result.metric]),
        "better than it": "yes" if result.better_than_baseline else "NO",
        "speed": f"{result.run.images_per_s:.0f} images/s, {result.run.seconds:.0f} s",
        "candidate": str(out / result.candidate),
    }
    tell(result, rows, result.run, out=out, as_json=as_json)


def _train_seeds(flags: Flags, experiment: Experiment) -> None:
    from lineside_trainer.cli.settings import tell
    from lineside_trainer.seeds import train_seeds
    from lineside_trainer.telling.seeds_report import show_spread
    from lineside_trainer.telling.tuning_report import show_metric

    result = train_seeds(experiment, flags.out, resume=flags.resume)
    rows = {
        **{f"test {show_metric(name)}": show_spread(s) for name, s in result.test.items()},
        result.baseline_name: show_spread(result.baseline[result.metric]),
        "better than it": f"{result.better_than_baseline} of {len(result.runs)} runs",
        f"validation {result.judged_by}": show_spread(result.validation),
        "candidate": f"{flags.out / result.candidate} (seed {result.chosen_seed})",
    }
    tell(result, rows, result, out=flags.out, as_json=flags.as_json)
