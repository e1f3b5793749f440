"""Files with weights: read without running anything in them, and fetched only on request."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Final

import torch
from timm.models import get_pretrained_cfg

from lineside_trainer.errors import ExperimentError, TrainerError
from lineside_trainer.models.cnn import CNNS
from lineside_trainer.models.timm_backbone import timm_name
from lineside_trainer.models.weights import Tensors, unwrapped

# The house's ViTs under timm's name: the same networks with patches of 16 px.
_TIMM_VITS: Final = {
    "vit_tiny": "vit_tiny_patch16_224",
    "vit_small": "vit_small_patch16_224",
    "vit_base": "vit_base_patch16_224",
}
_HUB_FILES: Final = ("model.safetensors", "pytorch_model.bin")


def read_weights_file(path: Path, arch: str) -> Tensors:
    """Tensors by name of a `.safetensors` file, or of one that `torch.save` wrote.

    Args:
        path: of the file.
        arch: for the advice where to get one.

    Raises:
        ExperimentError: it is not there, or holds more than plain tensors.
        TrainerError: damaged, or no weights.
    """
    if not path.is_file():
        raise ExperimentError(f"model.weights: {path}: there is no such file; {advice(arch)}")
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not tensors:
        raise TrainerError(f"model.weights: {path}: holds no tensors by name")
    return tensors


def _read_safetensors(path: Path) -> Tensors:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise TrainerError(f"model.weights: {path}: damaged: {_line(error)}") from error


def _read_torch(path: Path) -> Tensors:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ExperimentError(
            f"model.weights: {path}: damaged, or holds more than tensors, which could run code: "
            "where you trust its source, load it yourself and save its state_dict alone "
            f"({_line(error)})"
        ) from error
    except OSError as error:
        raise TrainerError(f"model.weights: {path}: {error.strerror}") from error
    # Damaged bytes raise whatever the unpickler stumbles over.
    except Exception as error:
        raise TrainerError(f"model.weights: {path}: damaged: {_line(error)}") from error
    return unwrapped(content) if isinstance(content, dict) else {}


def advice(arch: str) -> str:
    """Where weights of a network can be had."""
    hub_id = _hub_id(arch)
    if hub_id is None:
        return (
            f"of {arch} no public weights are known; give the backbone.pt of another run, or "
            "start from noise"
        )
    return (
        f"get {_HUB_FILES[0]} from https://huggingface.co/{hub_id}, or let --download do it in "
        "place of --weights"
    )


def download_weights(arch: str) -> Path:
    """Fetch timm's pre-trained weights into the hub's own cache, or find them there.

    Returns:
        The file.

    Raises:
        ExperimentError: there are none for this network.
        TrainerError: the network, the hub or the disk did not give them.
    """
    hub_id = _hub_id(arch)
    if hub_id is None:
        raise ExperimentError(f"model.download: {advice(arch)}")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    faults = _hub_faults()
    for name in _HUB_FILES:
        try:
            return Path(hf_hub_download(hub_id, name))
        except faults as error:
            # Older models have the second file alone.
            if name == _HUB_FILES[-1] or not isinstance(error, RemoteEntryNotFoundError):
                raise _no_download(hub_id, error) from error
    raise AssertionError("the last name returns or raises")


def _hub_faults() -> tuple[type[Exception], ...]:
    """Whatever the hub's client raises, with those of its transports that it lets through."""
    from huggingface_hub import errors

    own = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = [kind for kind in own if issubclass(kind, Exception)]
    return (*kinds, OSError, RuntimeError, ValueError)


def _no_download(hub_id: str, error: Exception) -> TrainerError:
    return TrainerError(
        f"model.download: {hub_id} could not be fetched: {_line(error)}; fetch "
        f"https://huggingface.co/{hub_id}/resolve/main/{_HUB_FILES[0]} where there is a network, "
        "and give it with --weights"
    )


def _hub_id(arch: str) -> str | None:
    if arch in CNNS:
        return None
    config = get_pretrained_cfg(_TIMM_VITS.get(arch, timm_name(arch)))
    return None if config is None or not config.hf_hub_id else str(config.hf_hub_id)


def _line(error: Exception) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:200] or 'no message'}"
