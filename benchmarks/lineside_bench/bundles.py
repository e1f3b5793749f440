"""The models that are measured: every kind, small trainings on synthetic joints, sealed in float
and in eight bits. They judge badly, and need not judge well: their shapes decide what they cost."""

from __future__ import annotations

import csv
import io
import shlex
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click

from lineside.durable import make_folder, write_durably
from lineside.errors import InputDataError, LinesideError
from lineside_bench.suite import KEY_FILE, LIST_FILE, SIDES_FOLDER, Sealed, encode_list
from lineside_bench.verb import verb_command

SIDE_PX: Final = 64
_TARGET: Final = "delta_b_max"
_LIMIT: Final = "0.2"
# Of the same ViT-Ti for `scaling`: 16, 36 and 144 patches; the suite has 64 and fewer images do.
SIDES_PX: Final = (32, 48, 96)
_SIDES_PARTS: Final = 20
# With fewer the training images are no batch of the usual size.
_FEWEST_PARTS: Final = 30
_STANDARD_ERROR: Final = 2  # what a verb tells is not what this one does
_DONE: Final = "result.json"  # in the folder of a run that has come to its end
_FORMS: Final = ("fp32", "int8")
_REGRESSION: Final = ("--task", "regression", "--target", _TARGET, "--limit", _LIMIT)
_ANOMALY: Final = ("--task", "anomaly", "--target", "state", "--good", "good")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one model is trained.

    Attributes:
        kind, score: as `Sealed` has them.
        train: words of `lineside train`; empty where another one's run is used.
        pretrained: begins from a network that learnt these images without their labels.
        rescore: take the run of this model, with ``score`` in its graph.
        side_px: of the network's square input.
        longer: so many times the epochs; a model whose scores hardly differ is refused in 8 bits.
    """

    kind: str
    score: str = ""
    train: tuple[str, ...] = ()
    pretrained: bool = False
    rescore: str = ""
    side_px: int = SIDE_PX
    longer: int = 1


RECIPES: Final = {
    "vit_tiny": Recipe(kind="regression", train=(*_REGRESSION, "--arch", "vit_tiny")),
    "sam_cnn": Recipe(kind="regression", train=(*_REGRESSION, "--arch", "sam_cnn")),
    "small_cnn": Recipe(
        kind="regression", train=(*_REGRESSION, "--arch", "test_resnet"), longer=15
    ),
    "resnet18": Recipe(kind="regression", train=(*_REGRESSION, "--arch", "resnet18")),
    "beta_vae recon": Recipe(
        kind="anomaly", score="recon", train=(*_ANOMALY, "--arch", "beta_vae", "--score", "recon")
    ),
    "beta_vae gradcon": Recipe(kind="anomaly", score="gradcon", rescore="beta_vae recon"),
    "memory": Recipe(
        kind="anomaly",
        score="memory",
        train=(*_ANOMALY, "--memory-patches", "1000"),
        pretrained=True,
    ),
}
_QUICK: Final = ("vit_tiny", "small_cnn", "beta_vae recon", "beta_vae gradcon")


class MakingFault(LinesideError):
    """A verb that was to make a model failed; it has said why."""


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the suite; what is there already is kept.",
)
@click.option(
    "--parts",
    type=click.IntRange(_FEWEST_PARTS),
    default=60,
    show_default=True,
    help="Of the data.",
)
@click.option("--epochs", type=click.IntRange(1), default=2, show_default=True, help="Of each run.")
@click.option("--quick", is_flag=True, help="Without the larger models.")
def bundles(out: Path, parts: int, epochs: int, quick: bool) -> None:
    """Make the sealed models that the other measurements take.

    Needs `lineside-trainer` and `lineside-export`; carry the folder to the device afterwards
    (OUT/work, the runs, may stay behind). Stopped, it goes on where it was.

    Example: lineside measure bundles --out suite
    """
    work = out / "work"
    make_folder(work)
    _make_key(out)
    _make_data(work, parts)
    sealed: list[Sealed] = []
    for model in _wanted(quick):
        recipe = RECIPES[model]
        candidate = _train(work, model, recipe, epochs)
        sealed += [_seal(out, work, candidate, model, recipe, form) for form in _FORMS]
    write_durably(out / LIST_FILE, [encode_list(sealed)])
    if not quick:
        _make_sides(out)
    click.echo(f"{out}: {len(sealed)} sealed models; measure with `lineside measure latency {out}`")


def _make_sides(out: Path) -> None:
    folder = out / SIDES_FOLDER
    work = out / "work" / SIDES_FOLDER
    make_folder(work)
    make_folder(folder)
    _make_data(work, _SIDES_PARTS)
    sealed = []
    for side_px in SIDES_PX:
        model = f"vit_tiny {side_px} px"
        plain = RECIPES["vit_tiny"]
        # Few images, which are fewer than a batch of the usual size.
        recipe = replace(plain, side_px=side_px, train=(*plain.train, "--batch-size", "16"))
        candidate = _train(work, model, recipe, epochs=1)
        sealed.append(_seal(folder, out / "work", candidate, model, recipe, "fp32"))
    write_durably(folder / KEY_FILE, [(out / KEY_FILE).read_bytes()])
    write_durably(folder / LIST_FILE, [encode_list(sealed)])


def _wanted(quick: bool) -> list[str]:
    return [name for name in RECIPES if not quick or name in _QUICK]


def _make_key(out: Path) -> None:
    private = out / "work" / "factory.key"
    if not private.exists():
        if (out / KEY_FILE).exists():
            # A suite that was carried here without its runs: half of it would be another maker's.
            raise InputDataError(
                f"{private}: missing, and {out} is sealed by it: name a new folder"
            )
        _run("keys", "new", "factory", "--out", out / "work")
    public = (out / "work" / "factory.pub").read_bytes()
    write_durably(out / KEY_FILE, [public])


def _make_data(work: Path, parts: int) -> None:
    joints = work / "joints"
    labels = joints / "labels.csv"
    if not labels.exists():
        _run("dataset", "joints", joints, "--parts", parts, "--seed", 7, "--size", SIDE_PX)
    with labels.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if "state" in rows[0]:
        return
    for row in rows:
        row["state"] = "good" if float(row[_TARGET]) < float(_LIMIT) else "bad"
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_durably(labels, [text.getvalue().encode("utf-8")])


def _train(work: Path, model: str, recipe: Recipe, epochs: int) -> Path:
    if recipe.pretrained and not (work / "pre" / _DONE).exists():
        _run(*pretraining_words(work))
    run = _run_folder(work, model)
    if not (run / _DONE).exists():
        _run(*training_words(work, model, recipe, epochs))
    return run / "candidate"


def _run_folder(work: Path, model: str) -> Path:
    return work / model.replace(" ", "_")


def pretraining_words(work: Path) -> tuple[object, ...]:
    """The verb, and what it is told, that makes what a pre-trained model begins from."""
    return (
        *("pretrain", "--data", work / "joints", *_drawn(SIDE_PX), "--out", work / "pre"),
        *("--method", "simsiam", "--arch", "resnet18", "--epochs", 1, "--device", "cpu"),
        "--resume",
    )


def training_words(work: Path, model: str, recipe: Recipe, epochs: int) -> tuple[object, ...]:
    """The verb, and what it is told, that makes a model's candidate."""
    run = _run_folder(work, model)
    if recipe.rescore:
        source = _run_folder(work, recipe.rescore)
        return ("rescore", source, "--score", recipe.score, "--out", run, "--resume")
    # --init takes split and image size over.
    begun = ("--init", work / "pre") if recipe.pretrained else _drawn(recipe.side_px)
    return (
        *("train", "--data", work / "joints", *begun, *recipe.train, "--out", run),
        *("--epochs", epochs * recipe.longer, "--device", "cpu", "--resume"),
    )


def _drawn(side_px: int) -> tuple[object, ...]:
    return ("--group", "part", "--image-size", side_px)


def sealing_words(candidate: Path, work: Path, bundle: Path, form: str) -> tuple[object, ...]:
    """The verb, and what it is told, that seals a candidate in one form."""
    return (
        *("export", candidate, "--out", bundle, "--key", work / "factory.key"),
        # Wider gates than a factory would take: what is asked here is what a form costs.
        *("--precision", form, "--max-flips", 400, "--max-drop", 5),
        *("--report", work / f"{bundle.name}.report"),
    )


def _seal(out: Path, work: Path, candidate: Path, model: str, recipe: Recipe, form: str) -> Sealed:
    file = f"{model.replace(' ', '_')}_{form}.lsb"
    if not (out / file).exists():
        _run(*sealing_words(candidate, work, out / file, form))
    return Sealed(
        model=model,
        kind=recipe.kind,
        score=recipe.score,
        side_px=recipe.side_px,
        form=form,
        file=file,
    )


def _run(*words: object) -> None:
    click.echo(f"$ lineside {shlex.join(map(str, words))}", err=True)
    done = subprocess.run(verb_command(*words), stdout=_STANDARD_ERROR, check=False)
    if done.returncode:
        raise MakingFault(f"lineside {words[0]} ended with exit code {done.returncode}, see above")
