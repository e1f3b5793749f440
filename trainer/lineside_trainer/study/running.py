"""`lineside study`, without its command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lineside.durable import make_folder
from lineside_trainer.runs.provenance import command
from lineside_trainer.study.crew import Crew
from lineside_trainer.study.document import StudyFigures
from lineside_trainer.study.figures import gather
from lineside_trainer.study.plan import Piece, Plan
from lineside_trainer.study.plot import PLOT, draw_study
from lineside_trainer.study.tables import write_tables
from lineside_trainer.study.work import check_plan, do_pieces, make_data

Say = Callable[[str], None]


def run_study(
    plan: Plan,
    pieces: Sequence[Piece],
    *,
    processes: int,
    devices: int,
    say: Say,
) -> StudyFigures:
    """Do these pieces, and keep the tables up to date with each that ends.

    Args:
        plan: the whole study, which the tables show.
        pieces: of it, those that are to be done now.
        processes: so many at once, each a process of its own; 0 does them here, one by one.
        devices: GPUs that the processes are dealt out to; 0 leaves them all to each.
        say: hears a line for each piece that begins or ends.

    Raises:
        ExperimentError: a setting that cannot be, or a piece that was done with other settings.
        TrainerError: a finished piece that cannot be read.
        StorageError: the disk is full, read-only or gone.
    """
    check_plan(plan)
    out, typed = plan.asked.out, command()
    make_folder(out)
    make_data(plan, [piece for piece in pieces if not piece.missing])
    ended: set[Piece] = set()

    def told(piece: Piece, words: str) -> None:
        if words == "begun":
            say(f"[{len(ended) + 1}/{len(pieces)}] {piece.id}: {piece.epochs} epochs")
            return
        if words == "elsewhere":
            say(f"{piece.id}: another process has it")
            return
        ended.add(piece)
        say(f"[{len(ended)}/{len(pieces)}] {piece.id}: {words}")
        write_tables(out, gather(plan, typed))

    if processes:
        Crew(processes, devices, told).do(pieces)
    else:
        do_pieces(pieces, told)
    figures = gather(plan, typed)
    write_tables(out, figures)
    draw_study(out / PLOT, figures)
    return figures


def unfinished(figures: StudyFigures, pieces: Sequence[Piece]) -> list[str]:
    """Pieces that were to be done and are not, though nothing they need is missing."""
    ids = {piece.id for piece in pieces}
    return [one.id for one in figures.pieces if one.id in ids and one.state in ("failed", "to do")]
