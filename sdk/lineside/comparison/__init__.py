"""Two bundles on the same images: where they differ, and who is right where humans have spoken."""

from lineside.comparison.folder import ComparedImage, ImageFolder, read_images
from lineside.comparison.judging import Flip, Judged, check_same_product, judge_both
from lineside.comparison.report import Comparison, RateOfParts, Reviewed, compare

__all__ = [
    "ComparedImage",
    "Comparison",
    "Flip",
    "ImageFolder",
    "Judged",
    "RateOfParts",
    "Reviewed",
    "check_same_product",
    "compare",
    "judge_both",
    "read_images",
]
