"""Options that `pretrain` and `train` share, and how they become an experiment."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from lineside.cli.document import format_document
from lineside.cli.options import json_option
from lineside.cli.table import format_table

if TYPE_CHECKING:
    import msgspec

    from lineside_trainer.experiment import Experiment, Table
    from lineside_trainer.runs.results import PretrainSeedsResult, Run, TrainSeedsResult

Verb = Literal["pretrain", "train"]


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What both verbs were told; None where the file or a default decides."""

    out: Path
    config: Path | None
    resume: bool
    as_json: bool
    data: Path | None
    group: str | None
    split_column: str | None
    assurance_share: float | None
    split_seed: int | None
    split_seeds: tuple[int, ...] | None
    strict: bool
    image_size: tuple[int, int] | None
    arch: str | None
    weights: Path | None
    download: bool
    patch: int | None
    epochs: int | None
    batch_size: int | None
    lr: float | None
    patience: int | None
    seed: int | None
    seeds: int | None
    device: str | None
    devices: int | None
    nodes: int | None
    precision: str | None


class ImageSize(click.ParamType[tuple[int, int]]):
    """`64` for a square, `48x64` for height times width, in pixels."""

    name = "PIXELS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        sides = str(value).split("x")
        if len(sides) > 2 or not all(side.isdecimal() for side in sides):
            self.fail(f"{value!r}: give 64 for a square or 48x64 for height x width", param, ctx)
        return int(sides[0]), int(sides[-1])


class Seeds(click.ParamType[tuple[int, ...]]):
    """`1,3,4`: a seed for each of several runs."""

    name = "SEED,SEED"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        words = [word.strip() for word in str(value).split(",")]
        if not all(word.isdecimal() for word in words):
            self.fail(f"{value!r}: give whole numbers with commas between, as in 1,3,4", param, ctx)
        return tuple(int(word) for word in words)


_OPTIONS = (
    click.option("--data", type=click.Path(path_type=Path), help="Folder of images."),
    click.option(
        "--out", type=click.Path(path_type=Path), required=True, help="Folder of this run."
    ),
    click.option("--group", help="Column that names the physical part; a part is never split."),
    click.option("--split-column", help="Column that names the fold, instead of a drawn split."),
    click.option(
        "--assurance-share",
        type=click.FloatRange(0.0, 1.0, max_open=True),
        help="Of all images, kept for `lineside export --max-escape` alone. Default: 0.",
    ),
    click.option("--split-seed", type=int, help="Of the split alone."),
    click.option(
        "--split-seeds", type=Seeds(), help="With --seeds: a split seed for each, as in 1,3,4."
    ),
    click.option("--strict", is_flag=True, help="A file that cannot be used is an error."),
    click.option(
        "--arch", help="vit_tiny/small/base, sam_cnn, xray_cnn, swin_tiny/base, or timm's name."
    ),
    click.option(
        "--weights",
        type=click.Path(path_type=Path),
        help="File to start from: timm's, torch's, safetensors, another run's.",
    ),
    click.option(
        "--download", is_flag=True, help="Start from timm's weights; else nothing is downloaded."
    ),
    click.option("--image-size", type=ImageSize(), help="64, or 48x64 (height x width)."),
    click.option("--patch", type=int, help="Side of a patch, pixels."),
    click.option("--epochs", type=int, help="Passes over the training images."),
    click.option("--batch-size", type=int, help="Images a step."),
    click.option("--lr", type=float, help="Highest learning rate."),
    click.option(
        "--patience", type=int, help="Stop after so many epochs without a better one; 0 is off."
    ),
    click.option("--seed", type=int, help="Of every draw but the split."),
    click.option(
        "--seeds", type=int, help="Run so many seeds, from --seed on; report mean and spread."
    ),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where it runs."),
    click.option("--devices", type=int, help="Processes on this machine, a GPU each; default 1."),
    click.option("--nodes", type=int, help="Machines that torchrun or srun calls this on."),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16"]),
        help="auto: bf16 on a GPU, fp32 on a CPU.",
    ),
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        help="experiment.toml with any setting; options given here win.",
    ),
    click.option("--resume", is_flag=True, help="Go on where the run in --out stopped."),
    json_option,
)


def shared_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the shared options and hand them over as one `flags`."""

    @functools.wraps(function)
    def gathered(**given: Any) -> None:
        names = Flags.__dataclass_fields__
        flags = Flags(**{name: given.pop(name) for name in names})
        function(flags, **given)

    for option in reversed(_OPTIONS):
        gathered = option(gathered)
    return gathered


def effective_experiment(
    flags: Flags, verb: Verb, own: dict[str, Any], model: dict[str, Any] | None = None
) -> Experiment:
    """Defaults, below what an earlier run hands on, below the file, below the options.

    Args:
        flags: shared options.
        verb: whose section `own` is.
        own: the verb's own options; None where not given.
        model: likewise, of the section `model`.

    Raises:
        ExperimentError: a setting that is unknown or cannot be, or no run to go on with.
    """
    from lineside_trainer.ancestry.inheritance import handed_on
    from lineside_trainer.errors import ExperimentError
    from lineside_trainer.experiment_file import (
        read_experiment,
    )
    from lineside_trainer.runs.runfolder import EXPERIMENT

    shared = _shared(flags)
    shared["model"] |= model or {}
    given = _without_none({**shared, verb: {**_fit(flags), **own}})
    saved = flags.out / EXPERIMENT
    if flags.resume and flags.config is None and saved.exists():
        return read_experiment(saved, given)
    if flags.resume and flags.config is None and flags.data is None:
        raise ExperimentError(
            f"{flags.out}: holds no run to go on with ({EXPERIMENT} is missing); name the --out "
            "folder of one, or begin one without --resume"
        )
    inherit = functools.partial(handed_on, verb=verb)
    return read_experiment(flags.config, given, inherit)


def tell(
    result: msgspec.Struct,
    rows: dict[str, str],
    run: Run | TrainSeedsResult | PretrainSeedsResult,
    *,
    out: Path,
    as_json: bool,
) -> None:
    """Print the result: a document, or a table for people, after the notes of `run`."""
    import msgspec

    from lineside_trainer.learning.processes import this_place
    from lineside_trainer.runs.runfolder import REPORT

    if not this_place().is_first:
        return
    if as_json:
        document = {"out": str(out), **msgspec.to_builtins(result)}
        click.echo(format_document(document))
        return
    for note in run.notes:
        click.echo(f"note: {note}", err=True)
    told = [*rows.items(), ("report", str(out / REPORT))]
    click.echo(format_table(("what", "found"), told))


def _shared(flags: Flags) -> dict[str, Any]:
    return {
        "data": {
            "folder": str(flags.data.resolve()) if flags.data else None,
            "group": flags.group,
            "split_column": flags.split_column,
            "assurance_share": flags.assurance_share,
            "split_seed": flags.split_seed,
            "split_seeds": list(flags.split_seeds) if flags.split_seeds else None,
            "strict": flags.strict or None,
            "image_size_hw": list(flags.image_size) if flags.image_size else None,
        },
        "model": {
            "arch": flags.arch,
            "patch_px": flags.patch,
            "weights": str(flags.weights.resolve()) if flags.weights else None,
            "download": flags.download or None,
        },
        "run": {
            "seed": flags.seed,
            "seeds": flags.seeds,
            "device": flags.device,
            "devices": flags.devices,
            "nodes": flags.nodes,
            "precision": flags.precision,
        },
    }


def _fit(flags: Flags) -> dict[str, Any]:
    fit = {
        "epochs": flags.epochs,
        "batch_size": flags.batch_size,
        "lr": flags.lr,
        "patience": flags.patience,
    }
    return {"fit": fit}


def _without_none(table: dict[str, Any]) -> Table:
    found = {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in table.items()
    }
    return {key: value for key, value in found.items() if value is not None and value != {}}
