"""How often the promise of `--max-escape` breaks, and what it costs in review, by simulation.

    python benchmarks/escape_guarantee.py    # writes benchmarks/results/escape_guarantee.json

Parts are drawn from populations whose true escape rate at any limit is known in closed form. Each
draw has validation parts, which give the grid and the wished limits, and assurance parts, on which
the exporter's own functions choose the OK limit. A promise is broken where the true rate of the
worst form at that limit is above the promised one. A draw that is refused breaks nothing.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.cli.table import format_table
from lineside_export.guarantee import limit_grid, prove
from lineside_export.partscores import PartScores

DRAWS = 2000
OVERKILL = 0.01

Scores = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Population:
    """Scores of one kind of part, by each form; higher is worse.

    Attributes:
        draw: generator and number of parts to (forms, parts) scores.
        below: a limit to the largest share of any form that is no worse than it, exact.
    """

    draw: Callable[[np.random.Generator, int], Scores]
    below: Callable[[float], float]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is drawn, and what is promised.

    Attributes:
        shape: key of `SHAPES`.
        parts: of the assurance set, and of the validation set.
        prevalence: bad parts / parts.
        max_escape, confidence: the promise.
    """

    shape: str
    parts: int
    prevalence: float
    max_escape: float
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of all draws of a case.

    Attributes:
        draws: how many.
        broken: promises that do not hold.
        refused: draws without a promise.
        escape: mean true escape rate of the promises.
        review: mean share of parts that go to review, where at most `OVERKILL` of the good parts of
            the validation set may be judged ``NOT_OK``.
    """

    draws: int
    broken: int
    refused: int
    escape: float
    review: float


def normal_below(limit: float, mean: float = 0.0, std: float = 1.0) -> float:
    """Share of a normal distribution up to the limit."""
    return 0.5 * math.erfc((mean - limit) / (std * math.sqrt(2.0)))


def normal(mean: float) -> Population:
    """One form, normal with spread 1."""
    return Population(
        draw=lambda random, count: random.normal(mean, 1.0, (1, count)),
        below=lambda limit: normal_below(limit, mean),
    )


def hidden(mean: float, share: float) -> Population:
    """A share of the bad parts looks exactly like good ones: no limit in the gap is safe."""

    def draw(random: np.random.Generator, count: int) -> Scores:
        unseen = random.random((1, count)) < share
        return np.where(unseen, 0.0, mean) + random.normal(0.0, 1.0, (1, count))

    def below(limit: float) -> float:
        return share * normal_below(limit) + (1.0 - share) * normal_below(limit, mean)

    return Population(draw=draw, below=below)


def stepped(mean: float) -> Population:
    """Normal and rounded to whole numbers: most parts share their score with many others."""
    return Population(
        draw=lambda random, count: np.round(random.normal(mean, 1.0, (1, count))),
        below=lambda limit: normal_below(math.floor(limit) + 0.5, mean),
    )


def heavy(centre: float) -> Population:
    """Student's t with two degrees of freedom: outliers on both sides."""
    return Population(
        draw=lambda random, count: centre + random.standard_t(2.0, (1, count)),
        below=lambda limit: 0.5 + (limit - centre) / (2.0 * math.sqrt(2.0 + (limit - centre) ** 2)),
    )


def two_forms(mean: float) -> Population:
    """Two engines: the second lower by 0.1, each with noise of its own."""

    def draw(random: np.random.Generator, count: int) -> Scores:
        common = random.normal(mean, 1.0, count)
        return common + random.normal([[0.0], [-0.1]], 0.2, (2, count))

    return Population(
        draw=draw, below=lambda limit: normal_below(limit, mean - 0.1, math.hypot(1.0, 0.2))
    )


SHAPES: dict[str, tuple[Population, Population]] = {
    "apart": (normal(0.0), normal(4.0)),
    "overlapping": (normal(0.0), normal(1.5)),
    "no information": (normal(0.0), normal(0.0)),
    "hidden defects": (normal(0.0), hidden(6.0, 0.04)),
    "steps": (stepped(0.0), stepped(3.0)),
    "heavy tails": (heavy(0.0), heavy(6.0)),
    "two engines": (two_forms(0.0), two_forms(3.0)),
}
"""Populations of good and of bad parts."""


def simulate(case: Case, *, draws: int = DRAWS, seed: int = 0) -> Outcome:
    """Draw, choose, and hold the choice against the truth."""
    random = np.random.default_rng(seed)
    _, bad = SHAPES[case.shape]
    rates, reviews = [], []
    for _ in range(draws):
        validation = _draw(case, random)
        wished = max(float(found.bad.max(initial=0.0)) for found in validation)
        proof = prove(
            limit_grid(validation, wished),
            _draw(case, random),
            max_escape=case.max_escape,
            confidence=case.confidence,
        )
        if proof.proven:
            rates.append(bad.below(proof.loosest))
            reviews.append(_review_share(case, validation, proof.loosest))
    return Outcome(
        draws=draws,
        broken=int((np.array(rates) > case.max_escape).sum()),
        refused=draws - len(rates),
        escape=float(np.mean(rates)) if rates else math.nan,
        review=float(np.mean(reviews)) if reviews else math.nan,
    )


def most_broken(case: Case, draws: int) -> int:
    """Broken promises that chance allows: the expected ones and 3 standard deviations (0.13 %)."""
    share = 1.0 - case.confidence
    return math.floor(draws * share + 3.0 * math.sqrt(draws * share * (1.0 - share)))


def _draw(case: Case, random: np.random.Generator) -> tuple[PartScores, ...]:
    count = int(random.binomial(case.parts, case.prevalence))
    good, bad = SHAPES[case.shape]
    of_good, of_bad = good.draw(random, case.parts - count), bad.draw(random, count)
    return tuple(
        PartScores(engine=f"engine{form}", precision="int8", good=of_good[form], bad=of_bad[form])
        for form in range(len(of_good))
    )


def _review_share(case: Case, validation: tuple[PartScores, ...], ok: float) -> float:
    good, bad = SHAPES[case.shape]
    not_ok = max(ok, *(float(np.quantile(found.good, 1.0 - OVERKILL)) for found in validation))
    between = [population.below(not_ok) - population.below(ok) for population in (good, bad)]
    return (1.0 - case.prevalence) * between[0] + case.prevalence * between[1]


CASES = tuple(
    Case(shape=shape, parts=parts, prevalence=prevalence, max_escape=most, confidence=confidence)
    for shape in SHAPES
    for parts, prevalence, most, confidence in (
        (800, 0.5, 0.01, 0.95),
        (4000, 0.1, 0.01, 0.95),
        (4000, 0.5, 0.01, 0.95),
        (300, 0.3, 0.05, 0.9),
        (2000, 0.05, 0.05, 0.95),
    )
)


def main() -> None:
    """All cases, as a table and as a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    found = [(case, simulate(case, draws=asked.draws, seed=asked.seed)) for case in CASES]
    rows = [
        (
            *(case.shape, str(case.parts), f"{case.prevalence:g}"),
            f"{100 * case.max_escape:g} % at {100 * case.confidence:g} %",
            f"{100 * got.broken / got.draws:.1f} %",
            f"{100 * got.refused / got.draws:.1f} %",
            *(f"{100 * value:.2f} %" for value in (got.escape, got.review)),
        )
        for case, got in found
    ]
    head = ("scores", "parts", "prevalence", "promise", "broken", "refused", "escape", "review")
    print(format_table(head, rows, right=(1, 2, 4, 5, 6, 7)))
    # Here, because tests load this file by its path, from where its neighbours are not found.
    from results_folder import RESULTS

    from lineside_bench.record import circumstances, keep

    document = {
        **circumstances(
            "how often a promise about escapes breaks, and the share of parts to review"
        ),
        "draws": asked.draws,
        "seed": asked.seed,
        "cases": [{**asdict(case), **asdict(got)} for case, got in found],
    }
    keep(RESULTS / "escape_guarantee.json", document)


if __name__ == "__main__":
    main()
