"""One definition of every metric, for trainer, exporter and station. Numpy only."""

from lineside.metrics.binomial import rate_bound, rate_interval, sign_test
from lineside.metrics.classes import (
    accuracy,
    balanced_accuracy,
    class_recall,
    confusion_counts,
    mean_average_precision,
)
from lineside.metrics.flagging import BestF1, best_f1, f1, midway, precision, recall
from lineside.metrics.prevalence import AtPrevalence, OverDraws, at_prevalence
from lineside.metrics.ranking import (
    PrecisionRecallCurve,
    RocCurve,
    auroc,
    average_precision,
    precision_recall_curve,
    roc_curve,
)
from lineside.metrics.resampling import Interval, by_part_interval, mean_by_part_interval
from lineside.metrics.weighing import Statistic, squared_errors, weighted_mean

__all__ = [
    "AtPrevalence",
    "BestF1",
    "Interval",
    "OverDraws",
    "PrecisionRecallCurve",
    "RocCurve",
    "Statistic",
    "accuracy",
    "at_prevalence",
    "auroc",
    "average_precision",
    "balanced_accuracy",
    "best_f1",
    "by_part_interval",
    "class_recall",
    "confusion_counts",
    "f1",
    "mean_average_precision",
    "mean_by_part_interval",
    "midway",
    "precision",
    "precision_recall_curve",
    "rate_bound",
    "rate_interval",
    "recall",
    "roc_curve",
    "sign_test",
    "squared_errors",
    "weighted_mean",
]
