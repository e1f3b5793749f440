"""Ways to learn from images alone."""

from lineside_trainer.pretrain._registry import METHODS, build_method, check_method
from lineside_trainer.pretrain.method import Method

__all__ = ["METHODS", "Method", "build_method", "check_method"]
