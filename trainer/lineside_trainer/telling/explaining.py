"""`lineside explain`, without its command line: where a finished run looked in some images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lineside.candidate import SAMPLES, read_samples
from lineside.contract import Contract
from lineside.durable import make_folder
from lineside.errors import InputDataError
from lineside.frame import SUFFIXES, Pixels, read_frame
from lineside.plainfile import is_folder
from lineside.preprocess import prepare
from lineside_trainer.data.layouts import read_layout
from lineside_trainer.data.split import read_set_names
from lineside_trainer.errors import DataError, ExperimentError
from lineside_trainer.evaluate import predict
from lineside_trainer.evaluate.gradcam import (
    REFERENCE_IMAGES,
    explained_score,
    grad_cam,
    hires_cam,
    learnt_mirrors,
    spread_places,
)
from lineside_trainer.evaluate.overlay import Explained, draw_explained
from lineside_trainer.runs.predictions import Said
from lineside_trainer.runs.runfolder import CANDIDATE, SPLIT
from lineside_trainer.runs.trained import Trained, read_trained
from lineside_trainer.tasks import Task, headed

METHODS: Final = {"hirescam": hires_cam, "gradcam": grad_cam}
FOLDER: Final = "explain"


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Of one image.

    Attributes:
        image: the file.
        overlay: file with the image, its map and both.
        explained: what the map explains: a class, or the target and its bad end.
        predicted: what the network says: a class, or a number in the target's unit.
        scores: by class, 0..1; empty where the task knows no classes.
        truth: as `labels.csv` has it; None where that is not known.
        set: of the run's samples that the image was among; None where it was in none.
        empty: nothing in the image raised the score, so the map is zero everywhere.
    """

    image: str
    overlay: str
    explained: str
    predicted: str
    scores: dict[str, float]
    truth: str | None
    set: str | None
    empty: bool


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What the run's own data say of a file."""

    truth: str | None = None
    set: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What the network says of a file, beside what is known of it."""

    file: Path
    explained: str
    unit: str
    said: Said
    known: _Known

    @property
    def title(self) -> str:
        """For the picture."""
        unit = "" if self.unit == "1" else f" {self.unit}"
        truth = "" if self.known.truth is None else f" (true: {show(self.known.truth)}{unit})"
        return (
            f"{self.file.name}: {show(self.said.predicted)}{unit}{truth}\nmap of {self.explained}"
        )

    def explanation(self, picture: Path, *, empty: bool) -> Explanation:
        """For programs."""
        return Explanation(
            image=str(self.file),
            overlay=str(picture),
            explained=self.explained,
            predicted=self.said.predicted,
            scores=self.said.scores,
            truth=self.known.truth,
            set=self.known.set,
            empty=empty,
        )


def explain(
    run: Path,
    images: Sequence[Path],
    *,
    out: Path | None = None,
    method: str = "hirescam",
    chosen: str | None = None,
) -> list[Explanation]:
    """Write a picture for each image: what the network saw, where it looked, and what it said.

    Args:
        run: `--out` of a finished `lineside train`.
        images: files; a folder stands for the images in it, in name order.
        out: where the pictures go; None is `explain` in the run's folder.
        method: a key of `METHODS`.
        chosen: class to explain; None takes the likeliest of each image.

    Raises:
        ExperimentError: no finished run, an unknown method or class.
        InputDataError: an image that is missing, cannot be decoded, or is not of the kind the
            network takes; nothing is written then.
        TrainerError: the run is damaged.
        StorageError: the disk is full, read-only or gone.
    """
    make_maps = METHODS.get(method)
    if make_maps is None:
        raise ExperimentError(f"--method: {method!r} is unknown; there are {', '.join(METHODS)}")
    trained = read_trained(run, "RUN")
    worse, head = trained.experiment.train.worse, trained.contract.head
    score = explained_score(head, worse=worse, chosen=chosen)
    files = image_files(images)
    images_nhwc = _read_images(files, trained.contract)
    task = trained.task()
    maps_nhw = make_maps(
        headed(task),
        score,
        torch.from_numpy(images_nhwc),
        reference_nhwc=_reference(trained),
        mirrors=learnt_mirrors(trained.experiment.train.augment),
    ).numpy()
    folder = out or run / FOLDER
    pictures = [folder / name for name in picture_names(files, method)]
    answers = _answers(trained, task, images_nhwc, files, chosen)
    make_folder(folder)
    explanations = []
    for answer, picture, image_hwc, map_hw in zip(
        answers, pictures, images_nhwc, maps_nhw, strict=True
    ):
        draw_explained(picture, Explained(image_hwc=image_hwc, map_hw=map_hw, title=answer.title))
        explanations.append(answer.explanation(picture, empty=not map_hw.any()))
    return explanations


def image_files(images: Sequence[Path]) -> list[Path]:
    """Folders become the images in them, in name order.

    Raises:
        InputDataError: a folder without an image, or one that may not be read.
    """
    files: list[Path] = []
    for image in images:
        if not is_folder(image):
            files.append(image)
            continue
        try:
            inside = sorted(file for file in image.iterdir() if file.suffix.lower() in SUFFIXES)
        except OSError as error:
            raise InputDataError(f"{image}: {error.strerror}") from error
        if not inside:
            raise InputDataError(f"{image}: no image in it; Lineside reads {', '.join(SUFFIXES)}")
        files += inside
    return files


def picture_names(files: Sequence[Path], method: str) -> list[str]:
    """`NAME.METHOD.png` of each, numbered where names repeat; never the name of an image."""
    names: dict[str, None] = {}
    for file in files:
        name, number = f"{file.stem}.{method}.png", 2
        while name in names:
            name, number = f"{file.stem}-{number}.{method}.png", number + 1
        names[name] = None
    return list(names)


def show(text: str) -> str:
    """A number in four digits, a class as it is."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


def _read_images(files: Sequence[Path], contract: Contract) -> NDArray[np.uint8]:
    """(N, H, W, C) as the station would hand them to the network."""
    frames = [read_frame(file).pixels_hwc for file in files]
    return _prepared(frames, [str(file) for file in files], contract)


def _reference(trained: Trained) -> Tensor:
    """Training images, from the candidate, so that a run explains itself wherever it lies."""
    path = trained.folder / CANDIDATE / SAMPLES
    frames = read_samples(path)["quantisation"].frames_hwc
    chosen = [frames[place] for place in spread_places(len(frames), REFERENCE_IMAGES)]
    return torch.from_numpy(_prepared(chosen, [str(path)] * len(chosen), trained.contract))


def _prepared(
    frames_hwc: Sequence[Pixels], sources: Sequence[str], contract: Contract
) -> NDArray[np.uint8]:
    pairs = zip(frames_hwc, sources, strict=True)
    return np.stack(
        [prepare(frame, contract.frame, contract.input, source=source) for frame, source in pairs]
    )


def _answers(
    trained: Trained,
    task: Task,
    images_nhwc: NDArray[np.uint8],
    files: Sequence[Path],
    chosen: str | None,
) -> list[_Answer]:
    settings, known = trained.experiment.train, _known_files(trained)
    answers = []
    outputs = predict(task.network, torch.from_numpy(images_nhwc))
    for file, output in zip(files, outputs, strict=True):
        said = task.say(0.0, output)  # the truth that is known is shown as it was written
        likeliest = said.predicted if said.scores else f"{settings.target}, {settings.worse}"
        answers.append(
            _Answer(
                file=file,
                explained=chosen or likeliest,
                unit=settings.unit,
                said=said,
                known=known.get(file.resolve(), _Known()),
            )
        )
    return answers


def _known_files(trained: Trained) -> dict[Path, _Known]:
    """By resolved path; empty where the run's images have gone since."""
    folder, column = Path(trained.experiment.data.folder), trained.experiment.train.target
    try:
        rows, split = read_layout(folder).rows, read_set_names(trained.folder / SPLIT)
    except DataError:
        return {}
    sets = {name: key for key, names in split.items() for name in names}
    return {
        (folder / row.name).resolve(): _Known(
            truth=row.cells.get(column) or None, set=sets.get(row.name)
        )
        for row in rows
    }
