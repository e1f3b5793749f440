"""The whole road once, by the commands a user would type: images in, verdicts on MQTT out.

    make demo
    make demo DATA=folder TARGET=column GROUP=column LIMIT=number

Every step is a `lineside` verb in a process of its own, printed before it runs; this file only
strings them together and reads the figures that they leave. It ends with exit code 1 when the
interval of the test error does not lie below the mean predictor's error.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedded_broker import answers, embedded_broker
from steps import DemoError, listening_plc, run_verb, say
from summary import print_summary

SHORT_BUDGET = Path(__file__).with_name("demo.toml")
BROKER_HOST, BROKER_PORT = "127.0.0.1", 1883


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is learned from which images; ``limit`` parts good from bad, in the target's unit."""

    data: Path
    target: str
    group: str | None
    limit: float
    config: Path


def main() -> int:
    """Walk the road; returns the exit code."""
    arguments = _arguments()
    out: Path = arguments.out
    started_s = time.monotonic()
    try:
        _clear(out)
        task = _task(arguments, out)
        bundle = _learn_and_seal(task, out)
        frames = _lay_out_frames(task, out)
        with _broker() as url:
            station = _inspect(bundle, frames, url, out)
        below = print_summary(out, station, seconds=time.monotonic() - started_s)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    return 0 if below else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", type=Path, help="folder of images; default: synthetic joints")
    parser.add_argument("--target", help="column of labels.csv to learn")
    parser.add_argument("--group", help="column that tells which images must stay together")
    parser.add_argument("--limit", type=float, help="score that parts OK from NOT_OK")
    parser.add_argument("--config", type=Path, default=SHORT_BUDGET, help="experiment.toml")
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="where everything goes")
    arguments = parser.parse_args()
    if arguments.data is not None and arguments.target is None:
        parser.error("--data needs --target: which column of labels.csv is to be learned?")
    if arguments.data is None and (arguments.target or arguments.group):
        parser.error("--target and --group name columns of a folder of yours: give --data too")
    return arguments


def _clear(out: Path) -> None:
    marker = out / ".lineside-demo"
    if out.exists() and any(out.iterdir()) and not marker.exists():
        raise DemoError(f"{out} is not empty and no earlier demo made it; name another OUT", 2)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    marker.touch()


def _task(arguments: argparse.Namespace, out: Path) -> Task:
    if arguments.data is None:
        joints = out / "joints"
        say("No images of your own: 200 synthetic LED joints, five looks at each as they age.")
        run_verb("dataset", "joints", joints, "--parts", 200, "--seed", 7)
        # An LED counts as defective beyond 20 %: Röhrich et al., sec. 3.2.
        limit = 0.2 if arguments.limit is None else arguments.limit
        return Task(
            data=joints,
            target="delta_b_max",
            group="part",
            limit=limit,
            config=arguments.config,
        )
    limit = arguments.limit
    if limit is None:
        limit = _middle_of_range(arguments.data, arguments.target)
        say(f"No LIMIT given: half-way between the smallest and largest target, {limit:g}.")
    return Task(
        data=arguments.data,
        target=arguments.target,
        group=arguments.group,
        limit=limit,
        config=arguments.config,
    )


def _middle_of_range(data: Path, target: str) -> float:
    try:
        with (data / "labels.csv").open(newline="", encoding="utf-8-sig") as file:
            values = [float(row[target]) for row in csv.DictReader(file) if row.get(target)]
    except (OSError, ValueError) as error:
        raise DemoError(f"{data / 'labels.csv'}: column {target}: {error}", 3) from error
    if not values:
        raise DemoError(f"{data / 'labels.csv'} has no column {target!r} with numbers", 3)
    return (min(values) + max(values)) / 2


def _learn_and_seal(task: Task, out: Path) -> Path:
    group = ("--group", task.group) if task.group else ()
    shared = ("--config", task.config, "--data", task.data, *group)
    say("Self-pre-training: the network learns the images by filling in what is hidden.")
    run_verb("pretrain", *shared, "--method", "mae", "--arch", "vit_tiny", "--out", out / "pre")
    say("Tuning on the labels; the test parts are looked at once, at the end.")
    task_options = ("--task", "regression", "--target", task.target, "--limit", task.limit)
    run_verb("train", *shared, *task_options, "--init", out / "pre", "--out", out / "joint")
    say("A key of the factory's own, and the sealed bundle: the fastest form that holds its gates.")
    run_verb("keys", "new", "factory", "--out", out)
    bundle = out / "joint.lsb"
    exported = run_verb(
        *("export", out / "joint" / "candidate", "--out", bundle, "--key", out / "factory.key"),
        "--json",
    )
    (out / "export.json").write_text(exported, encoding="utf-8")
    return bundle


def _lay_out_frames(task: Task, out: Path) -> Path:
    """The test images as a line would bring them, and one picture that was cut off on its way."""
    frames = out / "line" / "frames"
    frames.mkdir(parents=True)
    split = json.loads((out / "joint" / "split.json").read_text(encoding="utf-8"))
    test = [Path(name) for name in split["files"]["test"]]
    for number, name in enumerate(test):
        shutil.copyfile(task.data / name, frames / f"{number:05d}-{name.name}")
    whole = (task.data / test[0]).read_bytes()
    (frames / f"{len(test):05d}-damaged{test[0].suffix}").write_bytes(whole[: len(whole) // 2])
    return frames


@contextmanager
def _broker() -> Iterator[str]:
    if answers(BROKER_HOST, BROKER_PORT):
        say(f"A broker answers on port {BROKER_PORT}: it is used.")
        yield f"mqtt://{BROKER_HOST}:{BROKER_PORT}"
        return
    with ExitStack() as stack:
        try:
            port = stack.enter_context(embedded_broker(BROKER_HOST))
        except RuntimeError as error:
            raise DemoError(f"{error}; start one on port {BROKER_PORT} and try again", 8) from error
        say(f"No broker answers on port {BROKER_PORT}: one is started inside the demo.")
        yield f"mqtt://{BROKER_HOST}:{port}"


def _inspect(bundle: Path, frames: Path, url: str, out: Path) -> dict[str, object]:
    """Verify, then run the station while somebody listens as the PLC would."""
    public_key = out / "factory.pub"
    say("On the device: signature, hashes, golden samples.")
    run_verb("verify", bundle, "--trust", public_key)
    station = out / "line" / "station.toml"
    _write_station(station, bundle, public_key, frames, url)
    say("The station inspects; the PLC listens (its whole view: line/plc.txt).")
    count = sum(1 for _ in frames.iterdir())
    with listening_plc(url, count, out / "line" / "plc.txt"):
        report = run_verb("run", station, "--json")
    (out / "run.json").write_text(report, encoding="utf-8")
    found: dict[str, object] = json.loads(report)
    return found


def _write_station(station: Path, bundle: Path, public_key: Path, frames: Path, url: str) -> None:
    station.write_text(
        f"""[station]
site = "demo"
line = "line1"
name = "aoi1"

[bundle]
path = {json.dumps(str(bundle.resolve()))}
trust = [{json.dumps(str(public_key.resolve()))}]

[source]
kind = "folder"
path = {json.dumps(str(frames.resolve()))}

[outbox]
path = "outbox.sqlite"

[mqtt]
url = "{url}"
""",
        encoding="utf-8",
    )


if __name__ == "__main__":
    sys.exit(main())
