"""How good it is, and how to show it."""

from lineside_trainer.evaluate.judgement import Judgement, Yardstick, measure, predict
from lineside_trainer.evaluate.report import Picture, Report, write_report

__all__ = ["Judgement", "Picture", "Report", "Yardstick", "measure", "predict", "write_report"]
