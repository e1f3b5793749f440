"""How good it is, and how to show it."""

from lineside_trainer.evaluate.judgement import Judgement, judge, predict
from lineside_trainer.evaluate.report import Picture, Report, write_report

__all__ = ["Judgement", "Picture", "Report", "judge", "predict", "write_report"]
