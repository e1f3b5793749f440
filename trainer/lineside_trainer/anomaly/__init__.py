"""Learn from good parts alone, and judge how unlike them a part is."""

from lineside_trainer.anomaly.tuning import train_anomaly

__all__ = ["train_anomaly"]
