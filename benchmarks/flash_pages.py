"""How little of a retrained bundle goes over the wire into a sensor that has the old one.

    python benchmarks/flash_pages.py --work FOLDER [--out FILE]

A simulated sensor, a process of its own, paces its line to the rate (`lineside measure flash` tells
what share of it a framing carries). A ViT is pre-trained on synthetic joints; two linear readouts
of it are learnt, each of another share of the labels, and two whole fine-tunings; all are exported
in int8. One lies in the sensor, the other is sent. The models are no good, and need not be: only
which bytes changed counts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from joint_runs import LIMIT, TARGET, Work, run_verb
from results_folder import RESULTS

from lineside.bundle import TrustedKeys, load_trust
from lineside_bench.record import circumstances, keep
from lineside_bench.verb import verb_command
from lineside_bridge.flash import flash_bundle
from lineside_bridge.flash_report import FlashReport
from lineside_bridge.framing import Framing
from lineside_bridge.link import SerialLink
from lineside_bridge.session import Session

BAUD: Final = 921_600
ENGINE: Final = "onnxruntime"
_PARTS: Final = 60
_PRETRAIN: Final = ("--method", "simmim", "--arch", "vit_tiny", "--image-size", "64")
_LEARN: Final = ("--task", "regression", "--target", TARGET, "--limit", LIMIT)


@contextlib.contextmanager
def simulated_sensor(public: Path, baud: int, delivered: Path) -> Iterator[str]:
    """Yields the port of one that is paced to the rate."""
    words: tuple[object, ...] = (
        "--pty",
        "--trust",
        public,
        "--baud",
        baud,
        "--engine",
        ENGINE,
        "--json",
    )
    command = verb_command("sensor", "simulate", *words, "--bundle", delivered)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            events = map(json.loads, running.stdout)
            yield next(event["port"] for event in events if event["event"] == "ready")
        finally:
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=60)


def flash(
    bundle: Path, trusted: TrustedKeys, port: str, baud: int, framing: Framing
) -> FlashReport:
    """The whole way."""
    with Session(lambda: SerialLink(port, baud), framing) as session:
        return flash_bundle(session, bundle, trusted=trusted)


def make_models(work: Work, folder: Path) -> tuple[dict[str, tuple[Path, Path]], Path]:
    """Pairs of sealed bundles, an old and a new one, and whose seal it is."""
    work.prepare()
    work.run("pretrain", "pre", "--data", work.data, *_PRETRAIN, "--epochs", 1, "--device", "cpu")
    run_verb("keys", "new", "factory", "--out", folder)
    pairs = {}
    kinds = {"linear readout": ("--probe", "--epochs", 3), "whole network": ("--epochs", 1)}
    for kind, options in kinds.items():
        sealed = []
        for seed, share in ((1, 0.6), (2, 0.8)):
            name = f"{kind.split()[0]}{seed}"
            given = ("--data", work.data, "--init", work.folder / "pre", "--label-share", share)
            work.run("train", name, *given, *_LEARN, *options, "--seed", seed, "--device", "cpu")
            out = folder / f"{name}.lsb"
            candidate = work.folder / name / "candidate"
            run_verb("export", candidate, "--out", out, "--key", folder / "factory.key")
            sealed.append(out)
        pairs[kind] = (sealed[0], sealed[1])
    return pairs, folder / "factory.pub"


def measure_pages(work: Work, folder: Path) -> list[dict[str, Any]]:
    """What of the new one goes over the wire, where the old one lies in the sensor."""
    pairs, public = make_models(work, folder)
    trusted = load_trust(public)
    rows = []
    for kind, (old, new) in pairs.items():
        thin = folder / f"{old.stem}-thin.lsb"
        run_verb("bundle", "thin", old, "--engine", ENGINE, "--out", thin, "--trust", public)
        with simulated_sensor(public, BAUD, thin) as port:
            report = flash(new, trusted, port, BAUD, Framing.CONSOLE)
        rows.append({"changed": kind, **_row(report)})
        print(rows[-1], flush=True)
    return rows


def _row(report: FlashReport) -> dict[str, Any]:
    fields = ("framing", "baud", "size_bytes", "sent_bytes", "lost", "took_s", "state", "proof")
    told = asdict(report)
    return {
        **{field: told[field] for field in fields},
        "kib_per_s": round(report.bytes_per_s / 1024, 2),
        "share_of_ceiling": None if report.share is None else round(report.share, 4),
        "saved": round(1 - report.sent_bytes / report.size_bytes, 4),
    }


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="runs, gone on with after a stop")
    parser.add_argument("--out", type=Path, default=RESULTS / "flash_pages.json")
    options = parser.parse_args()
    found = circumstances(
        "a retrained bundle into a sensor that has the old one: bytes over the wire"
    )
    with tempfile.TemporaryDirectory() as name:
        found["pages"] = measure_pages(Work(options.work, _PARTS, "fp32"), Path(name))
    keep(options.out, found)


if __name__ == "__main__":
    main()
