"""int8 by nncf's post-training quantisation, for ONNX (QDQ) and OpenVINO (FakeQuantize).

Transformer settings: SmoothQuant moves outliers of the activations into the weights before the
ranges are taken (Xiao et al. 2023, eq. 4), attention keeps the patterns that engines fuse, and
fast bias correction takes out the mean error (Nagel et al. 2019, sec. 4.2).

Two settings differ from nncf's defaults, because of a measurement on a ViT-Ti pre-trained and tuned
on synthetic joints (60 quantisation samples, scores spread by 0.073; docs/export.md). nncf averages
each sample's minimum and maximum, so whatever is unusual saturates; and its SmoothQuant strength is
0.95, the paper's is 0.5. Root mean square of int8's drift: 0.0114 with the defaults, 0.0041 with
true ranges, 0.0006 with both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from lineside_export import graph, openvino_ir
from lineside_export.errors import GraphError
from lineside_export.formats import Given
from lineside_export.memory_side import onnx_memory_side, openvino_memory_side
from lineside_export.signal_stack import kept_signal_stack
from lineside_export.targets import Target
from lineside_export.vendors import quiet_vendors, told

# nncf's own default; its ranges settle well before (Nagel et al. 2021, sec. 3: some hundred).
MAX_SAMPLES: Final = 300
# Xiao et al. 2023, sec. 4: the migration strength that suits most models.
_SMOOTH_ALPHA: Final = 0.5
_ATTENTION: Final = "ScaledDotProductAttention"


def quantise_onnx(
    model: ModelProto,
    images_nhwc: NDArray[np.uint8],
    given: Given,
    target: Target,
    keep_float: Sequence[str] = (),
) -> ModelProto:
    """Quantise an ONNX model; its batch stays dynamic, and what a memory flows through float.

    Args:
        model: float32, uint8 NHWC input.
        images_nhwc: (N, H, W, C) uint8 quantisation samples.
        given: names of the inputs, and the memory.
        target: whose arithmetic is meant.
        keep_float: names of operators that are left alone.

    Raises:
        GraphError: nncf refuses the model, or found nothing to quantise.
    """
    memory = given.contract.memory
    beside = [] if memory is None else [n.name for n in onnx_memory_side(model, memory.name)]
    quantised = _quantise(model, _feeds(images_nhwc, given), target, [*keep_float, *beside])
    if graph.count_operators(quantised, "QuantizeLinear") == 0:
        raise GraphError("nncf put no quantiser into the ONNX model: nothing in it can be int8")
    return graph.clean_model(quantised)


def quantise_openvino(
    model: Any,
    images_nhwc: NDArray[np.uint8],
    given: Given,
    target: Target,
    keep_float: Sequence[str] = (),
    *,
    float_attention: bool = True,
    zero_points: bool | None = None,
) -> Any:
    """Quantise an ``openvino.Model``; arguments and errors as `quantise_onnx`.

    Two settings are for this engine alone, by measurement (benchmarks/README.md, "What closes the
    distance to the roofline"): a ViT-Ti takes 0.91 of the time with both, and loses nothing.

    Args:
        float_attention: softmax(QK)V stays float, the products with weights around it do not: its
            quantisers, and the transposition of int8 values, cost more than they save.
        zero_points: ranges that are not symmetric around 0; each product then pays for the
            difference. ``None``: in networks without attention, whose convolutions gain no speed
            without them, and lose accuracy (a memory of patches of a ResNet-18 was refused).
    """
    memory = given.contract.memory
    beside = () if memory is None else openvino_memory_side(model, memory.name)
    attention = openvino_ir.names_of(model, _ATTENTION)
    if zero_points is None:
        zero_points = not attention
    quantised = _quantise(
        *(model, _feeds(images_nhwc, given)),
        target if zero_points else replace(target, symmetric=True),
        [*keep_float, *beside, *(attention if float_attention else ())],
    )
    if openvino_ir.count_operators(quantised, "FakeQuantize") == 0:
        raise GraphError("nncf put no quantiser into the OpenVINO model: nothing can be int8")
    openvino_ir.unfuse_means(quantised)
    return quantised


def _feeds(images_nhwc: NDArray[np.uint8], given: Given) -> list[dict[str, NDArray[Any]]]:
    """One frame each, with the memory itself: what it is compared with has a say in the ranges."""
    name, memory = given.contract.input.name, given.contract.memory
    beside = {} if memory is None or given.memory is None else {memory.name: given.memory}
    return [{name: image[np.newaxis], **beside} for image in choose_samples(images_nhwc)]


def choose_samples(images_nhwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most `MAX_SAMPLES`, evenly spaced, because neighbours are often of one part."""
    count = len(images_nhwc)
    if count <= MAX_SAMPLES:
        return images_nhwc
    return images_nhwc[np.linspace(0, count - 1, MAX_SAMPLES).round().astype(np.int64)]


def call_nncf(work: Callable[[Any], Any]) -> Any:
    """Let nncf work in silence; `work` is given the module.

    Raises:
        GraphError: nncf refuses the model.
    """
    with quiet_vendors(), kept_signal_stack():
        import nncf
        import nncf.errors

        faults: tuple[type[Exception], ...] = (
            # The last three are what it stops with on graphs that it did not foresee.
            *(RuntimeError, ValueError, KeyError, TypeError),
            *(AttributeError, IndexError, AssertionError),
            *(
                found
                for found in vars(nncf.errors).values()
                if isinstance(found, type) and issubclass(found, Exception)
            ),
        )
        try:
            return work(nncf)
        except faults as error:
            raise GraphError(f"nncf cannot quantise the model: {told(error)}") from error


def _quantise(model: Any, feeds: list[Any], target: Target, keep_float: Sequence[str]) -> Any:
    def work(nncf: Any) -> Any:
        presets = nncf.QuantizationPreset
        return nncf.quantize(
            model,
            nncf.Dataset(feeds),
            model_type=nncf.ModelType.TRANSFORMER,
            target_device=nncf.TargetDevice[target.nncf_device],
            preset=presets.PERFORMANCE if target.symmetric else None,
            ignored_scope=nncf.IgnoredScope(names=list(keep_float)) if keep_float else None,
            subset_size=len(feeds),
            advanced_parameters=_advanced_parameters(),
        )

    return call_nncf(work)


def _advanced_parameters() -> Any:
    from nncf.quantization import advanced_parameters

    settings = range_settings()
    return advanced_parameters.AdvancedQuantizationParameters(
        activations_range_estimator_params=settings["activations_range_estimator_params"],
        smooth_quant_alphas=settings["smooth_quant_params"],
    )


def range_settings() -> dict[str, Any]:
    """Where we differ from nncf's defaults, as `quantize_pt2e` calls them."""
    from nncf.quantization import advanced_parameters, range_estimator

    return {
        "activations_range_estimator_params": range_estimator.RangeEstimatorParametersSet.MINMAX,
        "smooth_quant_params": advanced_parameters.AdvancedSmoothQuantParameters(
            matmul=_SMOOTH_ALPHA
        ),
    }
