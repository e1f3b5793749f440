"""A run's folder: begun once, gone on with only on request, its settings beside its results."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from lineside.durable import make_folder, write_durably
from lineside.errors import LinesideError
from lineside_trainer.data.store import STORE_FILE
from lineside_trainer.errors import ExperimentError, TrainerError
from lineside_trainer.experiment import Experiment
from lineside_trainer.experiment_file import (
    encode_experiment,
    first_difference,
    read_experiment,
)

EXPERIMENT: Final = "experiment.toml"
SPLIT: Final = "split.json"
RESULT: Final = "result.json"
SEEN: Final = "seen.json"
BACKBONE: Final = "backbone.pt"
REPORT: Final = "report.html"
FIGURES: Final = "figures"
CANDIDATE: Final = "candidate"
TEACHER: Final = "teacher.json"
SLIMMED_FROM: Final = "slimmed_from.json"
_BEFORE_LEARNING: Final = frozenset({EXPERIMENT, SPLIT, STORE_FILE, TEACHER, SLIMMED_FROM})

Document = TypeVar("Document", bound=msgspec.Struct)


def begin_run(folder: Path, experiment: Experiment, *, resume: bool) -> None:
    """Claim the folder for this experiment.

    Raises:
        ExperimentError: the folder is in use and `resume` was not asked for, or it belongs to an
            experiment with other settings.
    """
    saved = folder / EXPERIMENT
    if resume and saved.exists():
        before = read_experiment(saved, {})
        run = msgspec.structs.replace(
            experiment.run, devices=before.run.devices, nodes=before.run.nodes
        )
        # However many processes share the batches, the steps are the same.
        changed = first_difference(before, msgspec.structs.replace(experiment, run=run))
        if changed:
            raise ExperimentError(
                f"{saved}: {changed} differs from what is asked for now; a run goes on only with "
                "its own settings: leave the option away, or begin a new run with another --out"
            )
        return
    if folder.exists() and (not folder.is_dir() or not all(map(_is_torn, folder.iterdir()))):
        raise ExperimentError(
            f"{folder}: exists already; go on with --resume, or choose another --out"
        )
    make_folder(folder)
    write_durably(saved, [encode_experiment(experiment).encode()])


@contextlib.contextmanager
def claimed_run(folder: Path, experiment: Experiment, *, resume: bool) -> Iterator[None]:
    """`begin_run`; an error before anything was learnt gives the folder back as it was.

    Otherwise a mistyped column would leave a folder that neither begins anew nor goes on.

    Raises:
        ExperimentError: as `begin_run`, or another process is at work there.
    """
    existed, begun = folder.exists(), (folder / EXPERIMENT).exists()
    begin_run(folder, experiment, resume=resume)
    with _alone_in(folder):
        for torn in filter(_is_torn, list(folder.rglob("*"))):
            torn.unlink(missing_ok=True)
        try:
            yield
        except LinesideError:
            if not begun:
                _give_back(folder, keep=existed)
            raise


def _is_torn(path: Path) -> bool:
    """What a killed process was writing aside; as large as a checkpoint, and of no use."""
    return path.name.endswith(".part")


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder; the system lets go of it however this process ends."""
    with contextlib.ExitStack() as held:
        try:
            file = held.enter_context((folder / EXPERIMENT).open("r+b"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ExperimentError(
                f"{folder}: another process is at work there; let it end, or end it"
            ) from error
        except OSError:
            # A folder that may only be read can still be looked at, and not every disk has locks.
            pass
        yield


def _give_back(folder: Path, *, keep: bool) -> None:
    with contextlib.suppress(OSError):
        found = list(folder.iterdir())
        if any(path.name not in _BEFORE_LEARNING for path in found):
            return
        for path in found:
            path.unlink()
        if not keep:
            folder.rmdir()


def write_document(path: Path, document: msgspec.Struct) -> None:
    """Readable JSON, durably.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    write_durably(path, [msgspec.json.format(msgspec.json.encode(document), indent=2), b"\n"])


def read_document(path: Path, kind: type[Document]) -> Document:
    """Read what `write_document` wrote.

    Raises:
        TrainerError: missing, damaged, or another kind.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise TrainerError(f"{path}: {error.strerror}; was the run finished?") from error
    except msgspec.DecodeError as error:
        raise TrainerError(
            f"{path}: damaged or of another kind ({error}): bring a whole one back, or train again"
        ) from error


def file_sha256(path: Path) -> str:
    """64 hex digits over a file's bytes.

    Raises:
        TrainerError: it cannot be read any more.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TrainerError(f"{path}: {error.strerror}") from error
