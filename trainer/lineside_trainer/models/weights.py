"""Weights of elsewhere, made to fit: other sizes, other channels, other wrappings, one network.

Files of timm, of torch, of the papers' own repositories and of Lineside's runs are all tables of
tensors by name. Only what has a known way is adapted; whatever else does not fit is an error that
names it, because a network that starts half from noise looks like one that starts from weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from timm.layers.patch_embed import resample_patch_embed
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table
from torch import Tensor, nn

from lineside_trainer.errors import ExperimentError
from lineside_trainer.models.backbone import Backbone
from lineside_trainer.models.vit import VitBackbone

Tensors = dict[str, Tensor]
RowsCols = tuple[int, int]

_WRAPPERS: Final = ("state_dict_ema", "model_ema", "state_dict", "model", "weights")
# Classifiers, and the halves of a pre-training that are thrown away.
_LEFT_OUT: Final = re.compile(
    r"(head|head_dist|fc|classifier|last_linear|pre_logits|decoder\w*|mask_token|projector"
    r"|predictor)(\.|$)"
)
_MADE_ANEW: Final = re.compile(r"(.*\.)?(relative_position_index|attn_mask|num_batches_tracked)$")
_NAMED_IN_ERRORS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """What loading did.

    Attributes:
        ignored: names in the file that this network has no place for.
        changes: what was made to fit, in words.
    """

    ignored: tuple[str, ...]
    changes: tuple[str, ...]


def unwrapped(content: Mapping[str, Any]) -> Tensors:
    """Tensors by name, from whatever a training script wrapped them in."""
    for key in _WRAPPERS:
        inside = content.get(key)
        if isinstance(inside, Mapping):
            return unwrapped(inside)
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def fit_weights(
    backbone: Backbone, given: Tensors, *, told: str, rows_cols: RowsCols | None = None
) -> Adapted:
    """Copy weights into a network.

    Args:
        backbone: its `net` is filled.
        given: tensors by name, of the network's own names, with or without a prefix.
        told: setting and source, for errors.
        rows_cols: patches along height and width where they come from; None takes a square.

    Raises:
        ExperimentError: they are of another network.
    """
    wanted: Tensors = backbone.net.state_dict()
    prefix = _prefix(given, wanted)
    own = timm_names({k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)})
    _check_names(own, wanted, told)
    fitted: Tensors = {}
    changes: dict[str, None] = {}
    for name in wanted.keys() & own.keys():
        fitted[name], change = _adapted(name, own[name], backbone, wanted, rows_cols)
        changes |= {change: None} if change else {}
    _check_tensors(own, fitted, wanted, told)
    backbone.net.load_state_dict(fitted, strict=False)
    outside = [name for name in given if not name.startswith(prefix)]
    inside = [name for name in own if name not in wanted and not _MADE_ANEW.match(name)]
    return Adapted(ignored=tuple(sorted([*outside, *inside])), changes=tuple(sorted(changes)))


def _prefix(given: Tensors, wanted: Tensors) -> str:
    """Under which most of the network lies, e.g. `module.` or `encoder.`."""
    first = next(iter(wanted))
    found = {name.removesuffix(first) for name in given if name.endswith(first)} | {""}
    return max(sorted(found), key=lambda prefix: sum(prefix + name in given for name in wanted))


def timm_names(own: Tensors) -> Tensors:
    """Names and shapes of timm, for files of torchvision's VGG and of Swin's authors."""
    if "features.0.weight" in own and "classifier.0.weight" in own:
        own = {_vgg_name(name): value for name, value in own.items()}
        first, second = own["pre_logits.fc1.weight"], own["pre_logits.fc2.weight"]
        own["pre_logits.fc1.weight"] = first.reshape(len(first), -1, 7, 7)
        own["pre_logits.fc2.weight"] = second.reshape(*second.shape, 1, 1)
    if "layers.0.downsample.reduction.weight" in own:
        # The authors halve at a stage's end, timm at the beginning of the next.
        pattern = re.compile(r"^layers\.(\d+)\.downsample")
        own = {
            pattern.sub(lambda found: f"layers.{int(found[1]) + 1}.downsample", name): value
            for name, value in own.items()
        }
    return own


def _vgg_name(name: str) -> str:
    for old, new in (("0", "pre_logits.fc1"), ("3", "pre_logits.fc2"), ("6", "head.fc")):
        name = name.replace(f"classifier.{old}.", f"{new}.")
    return name


def _check_names(own: Tensors, wanted: Tensors, told: str) -> None:
    missing = [name for name in wanted if name not in own and not _MADE_ANEW.match(name)]
    if len(missing) == len(wanted) or not own.keys() & wanted.keys():
        raise ExperimentError(
            f"{told}: not one tensor of this network is in it: it has {_some(list(own))}, the "
            f"network {_some(list(wanted))}; is it of another --arch?"
        )
    if missing:
        raise ExperimentError(
            f"{told}: {len(missing)} of {len(wanted)} tensors are missing ({_some(missing)}); "
            "is it of another --arch?"
        )
    known = (_LEFT_OUT, _MADE_ANEW)
    more = [n for n in own if n not in wanted and not any(pattern.match(n) for pattern in known)]
    if more:
        raise ExperimentError(
            f"{told}: holds {len(more)} tensors more than this network ({_some(more)}); is it of "
            "another --arch?"
        )


def _check_tensors(own: Tensors, fitted: Tensors, wanted: Tensors, told: str) -> None:
    others = [
        f"{name} is {_size(own[name].shape)}, here {_size(wanted[name].shape)}"
        for name in wanted
        if name in fitted and fitted[name].shape != wanted[name].shape
    ]
    if others:
        raise ExperimentError(f"{told}: holds another network: {_some(others)}; try its --arch")
    odd = [name for name, value in fitted.items() if not bool(value.isfinite().all())]
    if odd:
        raise ExperimentError(f"{told}: holds numbers that are not finite: {_some(sorted(odd))}")


def _adapted(
    name: str, value: Tensor, backbone: Backbone, wanted: Tensors, rows_cols: RowsCols | None
) -> tuple[Tensor, str]:
    """One tensor as the network needs it, and what was done to it, "" for nothing."""
    target = wanted[name]
    if name == "pos_embed" and isinstance(backbone, VitBackbone):
        return _positions(value, target, backbone.grid.rows_cols, rows_cols)
    if value.shape == target.shape:
        return value, ""
    if name.endswith("relative_position_bias_table"):
        return _window_bias(value, target, backbone.net.get_submodule(name.rpartition(".")[0]))
    first = next((known for known, tensor in wanted.items() if tensor.ndim == 4), "")
    if name != first or value.ndim != 4 or len(value) != len(target):
        return value, ""
    changes = []
    if name.endswith("patch_embed.proj.weight") and value.shape[2:] != target.shape[2:]:
        # Beyer et al. 2023, "FlexiViT", sec. 3.4.
        changes.append(f"patches of {value.shape[2]} px resampled to {target.shape[2]}")
        value = resample_patch_embed(value.float(), list(target.shape[2:]))
    if (value.shape[1], target.shape[1]) == (3, 1):
        changes.append("3 input channels summed into 1")
        value = value.sum(dim=1, keepdim=True)
    elif (value.shape[1], target.shape[1]) == (1, 3):
        changes.append("1 input channel shared out to 3")
        value = value.expand(-1, 3, -1, -1) / 3.0
    return value, ", ".join(changes)


def _positions(
    value: Tensor, target: Tensor, new: RowsCols, known: RowsCols | None
) -> tuple[Tensor, str]:
    """(1, 1 + L, width) interpolated to another grid; without a known old one it was a square."""
    side = math.isqrt(max(value.shape[1] - 1, 0))
    old = known or (new if value.shape == target.shape else (side, side))
    if old == new or value.shape[1] != 1 + math.prod(old) or value.shape[2] != target.shape[2]:
        return value, ""
    moved = resample_abs_pos_embed(value, new_size=list(new), old_size=list(old))
    return moved, f"positions of {_size(old)} patches interpolated to {_size(new)}"


def _window_bias(value: Tensor, target: Tensor, attention: nn.Module) -> tuple[Tensor, str]:
    if value.ndim != 2 or value.shape[1] != target.shape[1]:
        return value, ""
    window = attention.window_size
    assert isinstance(window, tuple), "timm's window attention"
    resized = resize_rel_pos_bias_table(value, window, tuple(target.shape))
    return resized, "position biases of windows interpolated to this size"


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _some(names: list[str]) -> str:
    shown, more = ", ".join(names[:_NAMED_IN_ERRORS]), len(names) - _NAMED_IN_ERRORS
    return f"{shown} and {more} more" if more > 0 else shown or "nothing"
