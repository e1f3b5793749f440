"""Both bundles judge every image, turn about, so that whatever slows the machine hurts both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import msgspec

from lineside.comparison.folder import ComparedImage
from lineside.errors import ConfigurationError, FrameError
from lineside.frame import read_frame
from lineside.inspector import Inspector
from lineside.verdict import Evaluation, Verdict


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One image and what both said of it."""

    image: ComparedImage
    new: Verdict
    installed: Verdict

    @property
    def flips(self) -> bool:
        """Whether they say different things."""
        return self.new.evaluation is not self.installed.evaluation


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """An image of which both say different things.

    Attributes:
        disposition: ``OK``, ``NOT_OK``, or ``""`` where no human spoke.
    """

    file: str
    part: str
    new: str
    installed: str
    new_score: float | None
    installed_score: float | None
    disposition: str


def check_same_product(new: Inspector, installed: Inspector) -> None:
    """Whether there is anything to compare.

    Raises:
        ConfigurationError: they judge different products.
    """
    products = [one.bundle.manifest.identity.product for one in (new, installed)]
    if products[0] != products[1]:
        raise ConfigurationError(
            f"{new.bundle.path} judges {products[0]!r}, {installed.bundle.path} judges "
            f"{products[1]!r}: only bundles of one product can be compared",
            path="NEW",
        )


def judge_both(
    new: Inspector,
    installed: Inspector,
    images: Sequence[ComparedImage],
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Judged]:
    """Each image by each bundle; one that cannot be read is ``NOT_DECIDABLE`` for both.

    Args:
        progress: called after each image with how many are done.
    """
    if images:  # the first inference of an engine is a slow one
        new.inspect_file(images[0].file)
        installed.inspect_file(images[0].file)
    judged = []
    for number, image in enumerate(images):
        first, second = (new, installed) if number % 2 == 0 else (installed, new)
        verdicts = {id(one): _judge(one, image) for one in (first, second)}
        judged.append(Judged(image=image, new=verdicts[id(new)], installed=verdicts[id(installed)]))
        progress(number + 1)
    return judged


def median_us(verdicts: Sequence[Verdict]) -> float | None:
    """Of what was inferred at all, microseconds."""
    times = [verdict.timings.total_us for verdict in verdicts if verdict.score is not None]
    return median(times) if times else None


def worst(verdicts: Sequence[Verdict]) -> Evaluation:
    """Of one part's images: NOT_OK before NOT_DECIDABLE before OK."""
    found = {verdict.evaluation for verdict in verdicts}
    if Evaluation.NOT_OK in found:
        return Evaluation.NOT_OK
    return Evaluation.OK if found == {Evaluation.OK} else Evaluation.NOT_DECIDABLE


def _judge(inspector: Inspector, image: ComparedImage) -> Verdict:
    try:
        frame = read_frame(image.file, part_id=image.part)
    except FrameError:
        return inspector.inspect_file(image.file, part_id=image.part)
    return inspector.inspect(frame)
