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
    from lineside_trainer.results import Run

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
    split_seed: int | None
    strict: bool
    image_size: tuple[int, int] | None
    arch: str | None
    patch: int | None
    epochs: int | None
    batch_size: int | None
    lr: float | None
    seed: int | None
    device: str | None
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


_OPTIONS = (
    click.option("--data", type=click.Path(path_type=Path), help="Folder of images."),
    click.option(
        "--out", type=click.Path(path_type=Path), required=True, help="Folder of this run."
    ),
    click.option("--group", help="Column that names the physical part; a part is never split."),
    click.option("--split-column", help="Column that names the fold, instead of a drawn split."),
    click.option("--split-seed", type=int, help="Of the split alone."),
    click.option("--strict", is_flag=True, help="A file that cannot be used is an error."),
    click.option("--arch", help="vit_tiny, vit_small or vit_base."),
    click.option("--image-size", type=ImageSize(), help="64, or 48x64 (height x width)."),
    click.option("--patch", type=int, help="Side of a patch, pixels."),
    click.option("--epochs", type=int, help="Passes over the training images."),
    click.option("--batch-size", type=int, help="Images a step."),
    click.option("--lr", type=float, help="Highest learning rate."),
    click.option("--seed", type=int, help="Of every draw but the split."),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where it runs."),
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


def effective_experiment(flags: Flags, verb: Verb, own: dict[str, Any]) -> Experiment:
    """Defaults, below what an earlier run hands on, below the file, below the options.

    Args:
        flags: shared options.
        verb: whose section `own` is.
        own: the verb's own options; None where not given.

    Raises:
        ExperimentError: a setting that is unknown or cannot be, or no run to go on with.
    """
    from lineside_trainer.errors import ExperimentError
    from lineside_trainer.experiment import read_experiment
    from lineside_trainer.initial import inherited_settings
    from lineside_trainer.runfolder import EXPERIMENT

    given = _without_none({**_shared(flags), verb: {**_fit(flags), **own}})
    saved = flags.out / EXPERIMENT
    if flags.resume and flags.config is None and saved.exists():
        return read_experiment(saved, given)
    if flags.resume and flags.config is None and flags.data is None:
        raise ExperimentError(
            f"{flags.out}: holds no run to go on with ({EXPERIMENT} is missing); name the --out "
            "folder of one, or begin one without --resume"
        )
    inherit = inherited_settings if verb == "train" else None
    return read_experiment(flags.config, given, inherit)


def tell(flags: Flags, result: msgspec.Struct, rows: dict[str, str], run: Run) -> None:
    """Print the result: a document, or a table for people."""
    import msgspec

    from lineside_trainer.runfolder import REPORT

    if flags.as_json:
        document = {"out": str(flags.out), **msgspec.to_builtins(result)}
        click.echo(format_document(document))
        return
    for note in run.notes:
        click.echo(f"note: {note}", err=True)
    told = [*rows.items(), ("report", str(flags.out / REPORT))]
    click.echo(format_table(("what", "found"), told))


def _shared(flags: Flags) -> dict[str, Any]:
    return {
        "data": {
            "folder": str(flags.data.resolve()) if flags.data else None,
            "group": flags.group,
            "split_column": flags.split_column,
            "split_seed": flags.split_seed,
            "strict": flags.strict or None,
            "image_size_hw": list(flags.image_size) if flags.image_size else None,
        },
        "model": {"arch": flags.arch, "patch_px": flags.patch},
        "run": {"seed": flags.seed, "device": flags.device, "precision": flags.precision},
    }


def _fit(flags: Flags) -> dict[str, Any]:
    return {"fit": {"epochs": flags.epochs, "batch_size": flags.batch_size, "lr": flags.lr}}


def _without_none(table: dict[str, Any]) -> Table:
    found = {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in table.items()
    }
    return {key: value for key, value in found.items() if value is not None and value != {}}
