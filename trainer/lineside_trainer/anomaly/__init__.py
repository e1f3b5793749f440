"""Learn from good parts alone, and judge how unlike them a part is."""

from lineside_trainer.anomaly.settings import check_anomaly
from lineside_trainer.anomaly.tuning import tune_anomaly

__all__ = ["check_anomaly", "tune_anomaly"]
