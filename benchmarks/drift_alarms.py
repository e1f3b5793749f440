"""How often drift is reported where there is none, and how late where there is some, by simulation.

    python benchmarks/drift_alarms.py    # writes benchmarks/results/drift_alarms.json and .png

False alarms: streams without drift, each held against a reference of its own, with a promise of one
false alarm in so few parts that many would be seen if it did not hold. What is measured is the mean
number of parts to the first alarm: parts watched / alarms, watched parts being cut at a horizon.
Delays: at the promise as shipped, one false alarm in 2,592,000 parts over five statistics, how many
parts pass from the beginning of a shift to the alarm; for light and focus on pictures drawn here,
through the device's own function and monitor.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lineside.cli.table import format_table
from lineside.contract import FrameSpec
from lineside.drift import (
    DriftMonitor,
    DriftReference,
    DriftSettings,
    FormSpreads,
    PartStatistics,
    PictureStatistics,
    Spread,
    measure_picture,
)
from lineside.drift.evidence import STAKES, Bounds, alarm_level, bet, grow, make_bounds, most_kept

MONTH_PARTS: Final = DriftSettings().parts_per_false_alarm
BLOCK: Final = DriftSettings().block
TOLERANCE: Final = DriftSettings().tolerance
LONG_BLOCK: Final = 128
WATCHED: Final = 5
_CHUNK_BLOCKS: Final = 256

Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Values]
"""Generator, streams and parts to the next (streams, parts) values; it may remember."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """What production gives.

    Attributes:
        start: makes a `Draw` that begins anew.
        reference: generator, streams, n to (streams, n) values that the references are made of;
            ``None``: the first values are drawn as production's, independently of each other.
    """

    start: Callable[[], Draw]
    reference: Draw | None = None


def independent(draw: Draw) -> Stream:
    """Nothing depends on what came before."""
    return Stream(start=lambda: draw, reference=draw)


def normal(random: np.random.Generator, streams: int, parts: int) -> Values:
    """Spread 1 about 0."""
    return random.standard_normal((streams, parts))


def with_bad(share: float) -> Stream:
    """Such a share of the parts lies far above all of the reference, which is of good parts."""

    def draw(random: np.random.Generator, streams: int, parts: int) -> Values:
        return normal(random, streams, parts) + 10.0 * (random.random((streams, parts)) < share)

    return Stream(start=lambda: draw, reference=normal)


def alike(correlation: float) -> Stream:
    """Each part is like the one before: AR(1), spread 1."""

    def start() -> Draw:
        last: list[Values] = []

        def draw(random: np.random.Generator, streams: int, parts: int) -> Values:
            now = last.pop() if last else random.standard_normal(streams)
            found = np.empty((streams, parts))
            fresh = math.sqrt(1.0 - correlation**2) * random.standard_normal((streams, parts))
            for part in range(parts):
                now = correlation * now + fresh[:, part]
                found[:, part] = now
            last.append(now)
            return found

        return draw

    return Stream(start=start, reference=normal)


def lots(size: int, share: float) -> Stream:
    """Lots of `size` parts have a mean of their own, with such a share of the variance."""

    def start() -> Draw:
        left: list[tuple[int, Values]] = []

        def draw(random: np.random.Generator, streams: int, parts: int) -> Values:
            found = math.sqrt(1.0 - share) * normal(random, streams, parts)
            at = 0
            while at < parts:
                count, mean = left.pop() if left else (size, random.standard_normal(streams))
                stop = min(parts, at + count)
                found[:, at:stop] += math.sqrt(share) * mean[:, np.newaxis]
                if count > stop - at:
                    left.append((count - (stop - at), mean))
                at = stop
            return found

        return draw

    return Stream(start=start, reference=normal)


def shifted(after: int, by: float, over: int = 1) -> Stream:
    """Normal; from a part on its mean goes away, within `over` parts, and stays."""

    def start() -> Draw:
        seen = [0]

        def draw(random: np.random.Generator, streams: int, parts: int) -> Values:
            number = seen[0] + np.arange(parts)
            seen[0] += parts
            return normal(random, streams, parts) + by * np.clip((number - after) / over, 0.0, 1.0)

        return draw

    return Stream(start=start, reference=normal)


def _exact(_: np.random.Generator, streams: int, parts: int) -> Values:
    """A reference without chance: the quantiles themselves."""
    quantiles = [NormalDist().inv_cdf((index + 0.5) / parts) for index in range(parts)]
    return np.tile(quantiles, (streams, 1))


def edge(parts: int, side: str) -> Stream:
    """As far off as the null allows, seen from an exact reference of so many parts."""
    bounds = make_bounds(parts, tolerance=TOLERANCE, watched=1)
    if side == "rank":
        by = math.sqrt(2.0) * NormalDist().inv_cdf(bounds.rank)
        return Stream(start=lambda: lambda *given: normal(*given) + by, reference=_exact)
    return Stream(start=with_bad(bounds.beyond).start, reference=_exact)


def first_alarms(
    stream: Stream,
    *,
    parts: int,
    promise: float,
    block: int = BLOCK,
    watched: int = 1,
    horizon: int,
    streams: int,
    random: np.random.Generator,
) -> Values:
    """The part with which each stream's first alarm comes; infinite beyond the horizon.

    Args:
        stream: what production gives.
        parts: of each reference.
        promise: parts per false alarm, over all statistics.
        block: parts that are judged together.
        watched: statistics that share the promise; streams are one each.
        horizon: parts watched.
        streams: how many.
        random: of all draws.
    """
    bounds = make_bounds(parts, tolerance=TOLERANCE, watched=watched)
    level = alarm_level(promise, block=block, watched=watched)
    draw = stream.start()
    references = np.sort((stream.reference or draw)(random, streams, parts))
    evidence = np.zeros((len(STAKES), streams))
    alarms = np.full(streams, np.inf)
    for first in range(0, horizon // block, _CHUNK_BLOCKS):
        values = draw(random, streams, _CHUNK_BLOCKS * block)
        worth = block_bets(values, references, bounds, block)
        for index in range(worth.shape[2]):
            evidence = np.minimum(grow(evidence, worth[:, :, index]), most_kept(level))
            hit = (evidence.mean(axis=0) >= level) & np.isinf(alarms)
            alarms[hit] = (first + index + 1) * block
        if np.isfinite(alarms).all():
            break
    return np.where(alarms <= horizon, alarms, np.inf)


def block_bets(values: Values, references: Values, bounds: Bounds, block: int) -> Values:
    """(sides, streams, blocks): what each block's bets are worth, for whole blocks of values."""
    streams, count = values.shape
    up, above, below = (np.empty((streams, count)) for _ in range(3))
    for index, (row, reference) in enumerate(zip(values, references, strict=True)):
        under = np.searchsorted(reference, row, "left") + np.searchsorted(reference, row, "right")
        up[index] = under / (2.0 * len(reference))
        above[index], below[index] = row > reference[-1], row < reference[0]
    means = (
        side.reshape(streams, count // block, block).mean(axis=2)
        for side in (up, 1.0 - up, above, below)
    )
    return np.stack([bet(m, b, s) for m, b, s in zip(means, bounds.by_side, STAKES, strict=True)])


@dataclass(frozen=True, kw_only=True)
class FalseAlarms:
    """Of one stream without drift.

    Attributes:
        stream: its name; its block.
        parts: of each reference.
        promise: parts per false alarm.
        watched_parts: of all streams, until their first alarm or the horizon.
        alarms: how many streams had one.
        measured: mean parts to the first alarm: watched parts / alarms; infinite without one.
        at_least: its lower end, one-sided 95 %, alarms counted as Poisson's.
    """

    stream: str
    block: int
    parts: int
    promise: int
    watched_parts: int
    alarms: int
    measured: float
    at_least: float


def count_false(
    name: str,
    stream: Stream,
    *,
    parts: int,
    promise: int,
    block: int = BLOCK,
    streams: int,
    horizons: int,
    seed: int,
) -> FalseAlarms:
    """Watch many streams for `horizons` times the promise."""
    horizon = horizons * promise
    random = np.random.default_rng(seed)
    alarms = first_alarms(
        stream,
        parts=parts,
        promise=promise,
        block=block,
        horizon=horizon,
        streams=streams,
        random=random,
    )
    count = int(np.isfinite(alarms).sum())
    watched = int(np.minimum(alarms, horizon).sum())
    return FalseAlarms(
        stream=name,
        block=block,
        parts=parts,
        promise=promise,
        watched_parts=watched,
        alarms=count,
        measured=watched / count if count else math.inf,
        at_least=watched / most_expected(count),
    )


def most_expected(count: int, risk: float = 0.05) -> float:
    """Upper end of the exact one-sided interval of a Poisson expectation (Garwood 1936)."""
    low, high = float(count), 10.0 + 3.0 * count
    for _ in range(60):
        middle = (low + high) / 2.0
        logs = [k * math.log(middle) - middle - math.lgamma(k + 1) for k in range(count + 1)]
        low, high = (middle, high) if sum(map(math.exp, logs)) > risk else (low, middle)
    return high


STREAMS: Final[dict[str, tuple[Stream, int]]] = {
    "like the reference, 100 parts": (independent(normal), 100),
    "like the reference, 300 parts": (independent(normal), 300),
    "like the reference, 1000 parts": (independent(normal), 1000),
    "rounded to whole numbers": (independent(lambda *given: np.round(normal(*given))), 300),
    "heavy tails (t, 2 degrees)": (independent(lambda r, *n: r.standard_t(2.0, n)), 300),
    "5 % far above": (with_bad(0.05), 300),
    "at the null's edge, rank": (edge(300, "rank"), 300),
    "at the null's edge, beyond": (edge(300, "beyond"), 300),
    "parts alike, 0.9": (alike(0.9), 300),
    "parts alike, 0.95": (alike(0.95), 300),
    "parts alike, 0.98": (alike(0.98), 300),
    "lots of 50, a third of the variance": (lots(50, 1.0 / 3.0), 300),
    "lots of 500, a tenth of the variance": (lots(500, 0.1), 300),
    "lots of 500, a third of the variance": (lots(500, 1.0 / 3.0), 300),
}
"""Streams without drift in the long run, and how many parts their references are of."""


@dataclass(frozen=True, kw_only=True)
class Delay:
    """From the beginning of a drift to its alarm, in parts.

    Attributes:
        drift: what happens.
        statistic: by which it was found first, of pictures.
        parts: of the reference.
        low, median, high: quantiles 0.05, 0.5 and 0.95 over the runs; infinite where not found.
    """

    drift: str
    statistic: str
    block: int
    parts: int
    low: float
    median: float
    high: float


def delay_of(drift: str, found: Values, *, block: int, parts: int, statistic: str = "") -> Delay:
    """Summarise runs."""
    low, median, high = np.quantile(found, (0.05, 0.5, 0.95), method="nearest").tolist()
    return Delay(
        drift=drift,
        statistic=statistic,
        block=block,
        parts=parts,
        low=low,
        median=median,
        high=high,
    )


RUN_IN: Final = 4096
"""Parts without drift before it begins, so that what was seen before counts."""

SHIFTS: Final = {
    **{f"mean up by {by:g} sigma": (by, 1) for by in (0.25, 0.5, 1.0, 2.0, 4.0)},
    "1 sigma within 10,000 parts": (1.0, 10_000),
    "1 sigma within a day (86,400)": (1.0, 86_400),
}


def delays_of_shifts(*, runs: int, seed: int) -> list[Delay]:
    """Of a statistic's mean, as shipped, with two references and three blocks."""
    found = []
    for parts in (300, 1000):
        for block in (BLOCK, LONG_BLOCK) if parts == 300 else (BLOCK,):
            for name, (by, over) in SHIFTS.items():
                alarms = first_alarms(
                    shifted(RUN_IN, by, over),
                    parts=parts,
                    promise=MONTH_PARTS,
                    block=block,
                    watched=WATCHED,
                    horizon=RUN_IN + 300_000,
                    streams=runs,
                    random=np.random.default_rng(seed),
                )
                found.append(delay_of(name, alarms - RUN_IN, block=block, parts=parts))
    return found


def draw_picture(random: np.random.Generator) -> NDArray[np.uint8]:
    """(96, 96, 1): gray ground with a light that varies by 2 %, some discs, noise."""
    side = 96
    picture = np.full((side, side), 110.0)
    for _ in range(int(random.integers(8, 16))):
        centre = random.integers(0, side, 2).tolist()
        shade = float(random.uniform(60.0, 190.0))
        cv2.circle(picture, centre, int(random.integers(3, 12)), shade, -1, cv2.LINE_AA)
    picture = cv2.GaussianBlur(picture, (0, 0), 0.7) * random.normal(1.0, 0.02)
    noisy = picture + random.normal(0.0, 2.0, picture.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)[:, :, np.newaxis]


def dimmed(picture: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """With so much less light."""
    less: NDArray[np.uint8] = np.rint(picture * (1.0 - share)).astype(np.uint8)
    return less


def blurred(picture: NDArray[np.uint8], sigma_px: float) -> NDArray[np.uint8]:
    """Out of focus; the sensor's noise stays as it was."""
    noise = np.random.default_rng(int(picture.sum())).normal(0.0, 2.0, picture.shape[:2])
    soft = cv2.GaussianBlur(picture[:, :, 0], (0, 0), sigma_px) + noise
    return np.clip(np.rint(soft), 0, 255).astype(np.uint8)[:, :, np.newaxis]


PICTURES: Final[dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]]] = {
    "light 5 % less": lambda picture: dimmed(picture, 0.05),
    "light 10 % less": lambda picture: dimmed(picture, 0.10),
    "blurred by 1 px": lambda picture: blurred(picture, 1.0),
    "blurred by 2 px": lambda picture: blurred(picture, 2.0),
}


def delays_of_pictures(*, runs: int, seed: int, parts: int = 300) -> list[Delay]:
    """Of light and focus, through the monitor as shipped; scores and embeddings stay."""
    random = np.random.default_rng(seed)
    pool = [draw_picture(random) for _ in range(2000)]
    found = []
    for name, change in PICTURES.items():
        usual, drifted = ([_measure(p) for p in ps] for ps in (pool, map(change, pool)))
        runs_found = [_one_run(usual, drifted, parts, random) for _ in range(runs)]
        named = ", ".join(sorted({statistic for _, statistic in runs_found}))
        alarms = np.array([alarm for alarm, _ in runs_found])
        found.append(delay_of(name, alarms, block=BLOCK, parts=parts, statistic=named))
    return found


def _measure(picture: NDArray[np.uint8]) -> PictureStatistics:
    return measure_picture(picture, FrameSpec(size_hw=None, channels=1))


def _one_run(
    usual: list[PictureStatistics],
    drifted: list[PictureStatistics],
    parts: int,
    random: np.random.Generator,
) -> tuple[float, str]:
    """Parts from the change of pictures to the alarm, and of which statistic it was."""
    taken = [usual[i] for i in random.permutation(len(usual))[:parts].tolist()]
    monitor = DriftMonitor(
        reference_of(taken, random.standard_normal((2, parts))), engine="none", precision="fp32"
    )
    for number in range(RUN_IN + 100_000):
        pictures = usual if number < RUN_IN else drifted
        picture = pictures[int(random.integers(len(pictures)))]
        score, embedding = random.standard_normal(2).tolist()
        monitor.add(PartStatistics(score=score, embedding=embedding, picture=picture))
        if number % BLOCK == BLOCK - 1 and monitor.state.alarm:
            raised = [s for s in monitor.state.statistics if s.alarm]
            return float(number + 1 - RUN_IN), ", ".join(s.name for s in raised)
    return math.inf, "none"


def reference_of(pictures: list[PictureStatistics], values: Values) -> DriftReference:
    """Of pictures, and of (2, N) scores and embeddings, for the form ``none/fp32``."""
    scores, embeddings = values
    return DriftReference(
        of="good",
        parts=float(len(scores)),
        light=Spread.from_values([p.light for p in pictures], "light"),
        clipping=Spread.from_values([p.clipping for p in pictures], "clipping"),
        focus=Spread.from_values([p.focus for p in pictures], "focus"),
        forms=(
            FormSpreads(
                engine="none",
                precision="fp32",
                score=Spread.from_values(scores, "score"),
                embedding=Spread.from_values(embeddings, "embedding"),
            ),
        ),
    )


SIZES_HW: Final = ((64, 64), (480, 640), (2048, 2448))


def measure_costs(seed: int) -> dict[str, float]:
    """Microseconds a part: the monitor with five statistics, and gray pictures by size (H x W)."""
    random = np.random.default_rng(seed)
    usual = [_measure(draw_picture(random)) for _ in range(300)]
    monitor = DriftMonitor(
        reference_of(usual, random.standard_normal((2, 300))), engine="none", precision="fp32"
    )
    parts = [PartStatistics(score=0.1, embedding=-0.2, picture=picture) for picture in usual]

    def add_all() -> None:
        for part in parts:
            monitor.add(part)

    found = {"monitor": _best_us(add_all) / len(parts)}
    for height, width in SIZES_HW:
        picture = random.integers(0, 256, (height, width, 1), np.uint8)
        found[f"picture {height}x{width}"] = _best_us(partial(_measure, picture))
    return found


def _best_us(work: Callable[[], object]) -> float:
    """The fastest of twenty: this machine does other things too."""
    times_us = []
    for _ in range(20):
        started_ns = time.perf_counter_ns()
        work()
        times_us.append((time.perf_counter_ns() - started_ns) / 1e3)
    return min(times_us)


def _plain(found: FalseAlarms | Delay) -> dict[str, object]:
    """For JSON, which has no infinity: ``None`` where nothing was found."""
    return {
        name: None if isinstance(value, float) and math.isinf(value) else value
        for name, value in asdict(found).items()
    }


def _told(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "none"


def tabulate_false(found: list[FalseAlarms]) -> str:
    """One row a stream."""
    rows = [
        (
            *(f.stream, str(f.block), str(f.parts), f"{f.promise:,}", f"{f.watched_parts:,}"),
            *(str(f.alarms), _told(f.measured), _told(f.at_least)),
        )
        for f in found
    ]
    head = ("stream", "block", "reference", "promised", "watched", "alarms", "measured", "at least")
    return format_table(head, rows, right=(1, 2, 3, 4, 5, 6, 7))


def tabulate_delays(found: list[Delay]) -> str:
    """One row a drift."""
    rows = [
        (d.drift, d.statistic, str(d.block), str(d.parts), *map(_told, (d.median, d.low, d.high)))
        for d in found
    ]
    head = ("drift", "found by", "block", "reference", "median", "5 %", "95 %")
    return format_table(head, rows, right=(2, 3, 4, 5, 6))


def draw(path: Path, delays: list[Delay]) -> None:
    """Delay over shift, one line a reference and block."""
    from lineside_bench.drawing import new_figure, save_figure

    figure = new_figure(6.4, 4.0)
    axes = figure.subplots()
    for block, parts in sorted({(d.block, d.parts) for d in delays}):
        points = [
            (SHIFTS[d.drift][0], d)
            for d in delays
            if (d.block, d.parts) == (block, parts) and SHIFTS[d.drift][1] == 1
        ]
        by, middle = [x for x, _ in points], [d.median for _, d in points]
        axes.plot(by, middle, "o-", label=f"block {block}, reference of {parts} parts")
        axes.fill_between(by, [d.low for _, d in points], [d.high for _, d in points], alpha=0.15)
    axes.set(xscale="log", yscale="log", xlabel="shift of the mean, sigma", ylabel="parts to alarm")
    shifts = sorted({by for by, over in SHIFTS.values() if over == 1})
    axes.set_xticks(shifts, [f"{by:g}" for by in shifts])
    axes.set_xticks([], minor=True)
    axes.legend()
    axes.grid(visible=True, alpha=0.3)
    save_figure(figure, path)


def main() -> None:
    """All streams and drifts, as tables, a file and a picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    false = [
        count_false(
            name,
            stream,
            parts=parts,
            promise=promise,
            block=block,
            streams=asked.streams // share,
            horizons=20,
            seed=asked.seed,
        )
        for promise, share in ((2_000, 1), (20_000, 4))
        for name, (stream, parts) in STREAMS.items()
        for block in ((BLOCK, LONG_BLOCK) if name.startswith(("parts alike", "lots")) else (BLOCK,))
    ]
    print(tabulate_false(false))
    shifts = delays_of_shifts(runs=asked.runs, seed=asked.seed)
    pictures = delays_of_pictures(runs=max(1, asked.runs // 5), seed=asked.seed)
    print("\n" + tabulate_delays([*shifts, *pictures]))
    costs_us = measure_costs(asked.seed)
    print("\n" + "\n".join(f"{name}: {cost:,.0f} us" for name, cost in costs_us.items()))
    # Here, because tests load this file by its path, from where its neighbours are not found.
    from results_folder import RESULTS

    from lineside_bench.record import circumstances, keep

    document: dict[str, Any] = {
        **circumstances("parts to a false alarm against what is promised, and parts to a true one"),
        "streams": asked.streams,
        "runs": asked.runs,
        "seed": asked.seed,
        "tolerance": TOLERANCE,
        "false_alarms": [_plain(f) for f in false],
        "costs_us": costs_us,
        "delays": [_plain(d) for d in (*shifts, *pictures)],
    }
    keep(RESULTS / "drift_alarms.json", document)
    draw(RESULTS / "drift_alarms.png", shifts)


if __name__ == "__main__":
    main()
