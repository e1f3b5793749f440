"""Raw outputs to score and findings: one file a head, one line a head in the registry."""

from lineside.heads._registry import find_outputs, score_outputs

__all__ = ["find_outputs", "score_outputs"]
