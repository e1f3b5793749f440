"""Raw outputs to score: one file a head, one line a head in the registry."""

from lineside.heads._registry import score_outputs

__all__ = ["score_outputs"]
