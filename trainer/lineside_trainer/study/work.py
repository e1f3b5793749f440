"""Doing the pieces of a plan: in this process, or in several of their own.

A piece that fails leaves its error beside its folder, and the others go on. Two studies on one
folder share the work: whoever does a piece holds its lock, which the kernel frees when he ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from lineside.durable import make_folder, write_durably
from lineside.errors import LinesideError, StorageError
from lineside_trainer.data.joints import JointsSettings, write_joints
from lineside_trainer.data.joints.folder import MARKER
from lineside_trainer.errors import ExperimentError, TrainerError
from lineside_trainer.experiment import ModelSettings
from lineside_trainer.experiment_file import (
    encode_experiment,
    first_difference,
    read_experiment,
)
from lineside_trainer.models import check_model
from lineside_trainer.pretraining import pretrain
from lineside_trainer.runs.runfolder import EXPERIMENT, RESULT
from lineside_trainer.study.file import DataSet
from lineside_trainer.study.plan import Piece, Plan
from lineside_trainer.study.trivial import judge_trivial
from lineside_trainer.tuning import train

POLL_S: Final = 0.2

Told = Callable[[Piece, str], None]
"""Hears what became of a piece: done, failed, …"""


def check_plan(plan: Plan) -> None:
    """Refuse what cannot be before anything is done.

    Raises:
        ExperimentError: a network that cannot be built, or a piece that was begun with other
            settings.
    """
    built: set[tuple[ModelSettings, tuple[int, int]]] = set()
    for piece in plan.pieces:
        experiment = piece.experiment
        network = (experiment.model, experiment.data.image_size_hw)
        if network not in built:  # large ones take a second each
            _check_network(plan, piece)
            built.add(network)
        saved = piece.folder / EXPERIMENT
        changed = saved.exists() and first_difference(read_experiment(saved, {}), experiment)
        if changed:
            raise ExperimentError(
                f"{piece.folder}: {changed} differs from what {plan.asked.file} asks for now; "
                "remove that folder to do it anew, or give another --out"
            )


def _check_network(plan: Plan, piece: Piece) -> None:
    try:
        check_model(piece.experiment.model, piece.experiment.data.image_size_hw)
    except ExperimentError as error:
        raise ExperimentError(f"{plan.asked.file}: {piece.name}: {error}") from error


def make_data(plan: Plan, pieces: Sequence[Piece]) -> None:
    """Compute the synthetic data sets that these pieces read; what is there is left alone.

    Raises:
        DataError: the folder holds something else.
        StorageError: the disk is full, read-only or gone.
    """
    for name in dict.fromkeys(piece.data_set for piece in pieces):
        one = plan.study.data_sets[name]
        folder = plan.asked.out.resolve() / "data" / name
        if any(Path(piece.experiment.data.folder) == folder for piece in pieces):
            _make_joints(folder, one)


def do_pieces(pieces: Sequence[Piece], told: Told) -> None:
    """Do all that are not done, one by one, in this process.

    Args:
        pieces: to be done; one waits for the pre-training it needs.
        told: called with "begun" before a piece; with "done", "failed: …", "missing: …" or
            "left: …" after it; and once with "elsewhere" while another process has it.

    Raises:
        StorageError: the disk is full, read-only or gone.
        KeyboardInterrupt: the user stopped it; what was begun goes on at the next call.
    """
    queue = Queue(pieces, told)
    while queue.waiting:
        taken = queue.take(())
        if taken is None:
            time.sleep(POLL_S)
            continue
        with taken.held:
            told(taken.piece, do_here(taken.piece))


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A piece that is ours to do now.

    Attributes:
        piece: to be done.
        held: lets go of its lock.
        lock: descriptor of the lock.
    """

    piece: Piece
    held: ExitStack
    lock: int


class Queue:
    """Pieces that wait to be done, by this process or another.

    Args:
        pieces: in the order in which they are taken.
        told: see `do_pieces`.
    """

    def __init__(self, pieces: Sequence[Piece], told: Told) -> None:
        self.waiting = list(pieces)
        self._told = told
        self._elsewhere: set[Path] = set()

    def take(self, begun: Sequence[Piece]) -> Taken | None:
        """The first that can be begun; what cannot be done at all is told and left.

        Args:
            begun: those that are not ended yet.
        """
        for piece in list(self.waiting):
            if piece.needs in {one.folder for one in (*self.waiting, *begun)}:
                continue
            obstacle = find_obstacle(piece)
            if obstacle:
                self._leave(piece, obstacle)
                continue
            held = ExitStack()
            lock = held.enter_context(locked(piece))
            if lock is None:
                self._wait_for(piece)
                continue
            # Whoever held the lock may have ended it in between.
            if is_done(piece):
                held.close()
                self._leave(piece, "done")
                continue
            self.waiting.remove(piece)
            self._told(piece, "begun")
            make_ready(piece)
            return Taken(piece=piece, held=held, lock=lock)
        return None

    def _leave(self, piece: Piece, words: str) -> None:
        self.waiting.remove(piece)
        self._told(piece, words)

    def _wait_for(self, piece: Piece) -> None:
        if piece.folder not in self._elsewhere:
            self._elsewhere.add(piece.folder)
            self._told(piece, "elsewhere")


def is_done(piece: Piece) -> bool:
    """Its result is there."""
    return (piece.folder / RESULT).exists()


def saved_error(piece: Piece) -> str:
    """What its last try failed with; "" where it did not, or was begun again."""
    try:
        return path_beside(piece, "error").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise TrainerError(f"{path_beside(piece, 'error')}: {error.strerror}") from error


def command_of(piece: Piece, *, below: Path | None = None) -> list[str]:
    """What does this piece alone, as typed; a trivial one has no verb of its own.

    Args:
        piece: to be done.
        below: the study's folder, where the command is to be typed in it.
    """
    if piece.kind == "trivial":
        return []
    paths = [path_beside(piece, "toml"), piece.folder]
    config, out = (str(path.relative_to(below) if below else path) for path in paths)
    return ["lineside", piece.kind, "--config", config, "--out", out, "--resume"]


def do_here(piece: Piece) -> str:
    """Do it in this process: "done" or "failed: …".

    Raises:
        StorageError: the disk is full, read-only or gone: the next piece would meet it too.
    """
    try:
        if piece.kind == "pretrain":
            pretrain(piece.experiment, piece.folder, resume=True)
        elif piece.kind == "train":
            train(piece.experiment, piece.folder, resume=True)
        else:
            judge_trivial(piece.experiment, piece.folder)
    except StorageError:
        raise
    except LinesideError as error:
        return record_failure(piece, str(error))
    return "done"


def record_failure(piece: Piece, words: str) -> str:
    """Leave the error beside the folder, for tables to come; gives back "failed: …"."""
    write_durably(path_beside(piece, "error"), [words.encode(), b"\n"])
    return f"failed: {words}"


def find_obstacle(piece: Piece) -> str:
    """Why it cannot be done now; "done" where it is; "" where nothing is in the way."""
    if is_done(piece):
        return "done"
    if piece.missing:
        return f"missing: {piece.missing}"
    if piece.needs and not (piece.needs / RESULT).exists():
        return f"left: its pre-training {piece.needs.parent.name} is not done"
    return ""


def make_ready(piece: Piece) -> None:
    """Its settings as a file, so that `command_of` can be typed; the traces of a kill away."""
    make_folder(piece.folder.parent)
    text = encode_experiment(piece.experiment).encode()
    write_durably(path_beside(piece, "toml"), [text])
    with suppress(FileNotFoundError):
        path_beside(piece, "error").unlink()
    # Killed while it wrote its first file, a run leaves a folder that neither begins nor goes on.
    if piece.folder.is_dir() and not (piece.folder / EXPERIMENT).exists():
        for torn in piece.folder.glob(f".{EXPERIMENT}.*.part"):
            torn.unlink()


def path_beside(piece: Piece, ending: str) -> Path:
    """A file of the study's own: settings (toml), error, lock, log."""
    return piece.folder.with_name(f"{piece.folder.name}.{ending}")


@contextmanager
def locked(piece: Piece) -> Iterator[int | None]:
    """The descriptor of a held lock; None where another process holds it."""
    make_folder(piece.folder.parent)
    path = path_beside(piece, "lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}; is the folder writable?") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        yield descriptor
    finally:
        os.close(descriptor)


def _make_joints(folder: Path, one: DataSet) -> None:
    assert one.synthetic is not None, "a set without a folder is computed or missing"
    wanted = JointsSettings(
        parts=one.synthetic.parts, seed=one.synthetic.seed, size_px=one.synthetic.size_px
    )
    marker = folder / MARKER
    if marker.exists():
        found = msgspec.json.decode(marker.read_bytes(), type=JointsSettings)
        if found == wanted:
            return
        raise ExperimentError(
            f"{folder}: holds joints of other settings; remove it, or give another --out"
        )
    make_folder(folder.parent)
    write_joints(folder, wanted)
