"""The forms a model can take, one file for each way: how small, how fast, and what is rounded."""

from lineside_export.schemes._registry import SCHEMES, find_scheme
from lineside_export.schemes.scheme import Material, Scheme, gather_material

__all__ = ["SCHEMES", "Material", "Scheme", "find_scheme", "gather_material"]
