"""A small model with a memory, made by hand: brightness of four patches against rows it is given.

Each quarter of a frame becomes a direction in the plane by its mean brightness; the memory's rows
are directions that are good. distance = 1 - max(q @ memory.T) by patch; the map is the distances,
the score the largest. What the engines must give is told by numpy in `expected`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lineside.contract import (
    AnomalyHead,
    Contract,
    FrameSpec,
    InputSpec,
    LimitRule,
    MemorySpec,
    OutputSpec,
)

SIDE_PX: Final = 32
WIDTH: Final = 2
GRID_HW: Final = (2, 2)


def memory_contract(*, width: int = WIDTH) -> Contract:
    """Gray square frames and a memory to score and map."""
    return Contract(
        product="tiny",
        frame=FrameSpec(size_hw=(SIDE_PX, SIDE_PX), channels=1),
        input=InputSpec(size_hw=(SIDE_PX, SIDE_PX), channels=1),
        outputs=(OutputSpec(name="score"), OutputSpec(name="map", shape=GRID_HW)),
        memory=MemorySpec(width=width),
        head=AnomalyHead(map="map", region_limit=0.1),
    )


def memory_rule() -> LimitRule:
    """A frame as bright as the memory is OK."""
    return LimitRule(ok_limit=0.05, not_ok_limit=0.05)


def directions(brightness: NDArray[np.float64] | list[float]) -> NDArray[np.float32]:
    """(M, 2) float32 rows of length 1 for patches of such a mean brightness, 0..1."""
    angle = np.asarray(brightness, np.float64) * np.pi / 2.0
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def expected(
    images_nhwc: NDArray[np.uint8], rows: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """What score and map must be, by numpy in float64."""
    half = SIDE_PX // 2
    means = images_nhwc[..., 0].reshape(-1, 2, half, 2, half).mean(axis=(2, 4)) / 255.0
    angle = means * np.pi / 2.0
    query = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    distance = 1.0 - (query @ unit.T.astype(np.float64)).max(axis=-1)
    return {"score": distance.max(axis=(1, 2)), "map": distance}


def memory_onnx(
    *, width: int = WIDTH, patches: int | str = "patches", memory_first: bool = False
) -> onnx.ModelProto:
    """The graph; rows need not have length 1, it normalises them."""
    constants = {
        "scale": np.float32(np.pi / 2.0 / 255.0),
        "one": np.float32(1.0),
        "tokens": np.array([0, 4, 1], np.int64),
        "grid": np.array([0, *GRID_HW], np.int64),
    }
    half = SIDE_PX // 2
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool", ["nchw"], ["means"], kernel_shape=[half, half], strides=[half, half]
        ),
        helper.make_node("Mul", ["means", "scale"], ["angle"]),
        helper.make_node("Reshape", ["angle", "tokens"], ["flat"]),
        helper.make_node("Cos", ["flat"], ["x"]),
        helper.make_node("Sin", ["flat"], ["y"]),
        helper.make_node("Concat", ["x", "y"], ["query"], axis=2),
        helper.make_node("LpNormalization", ["memory"], ["unit"], axis=1, p=2),
        helper.make_node("Transpose", ["unit"], ["columns"], perm=[1, 0]),
        helper.make_node("MatMul", ["query", "columns"], ["likeness"]),
        helper.make_node("ReduceMax", ["likeness"], ["nearest"], axes=[2], keepdims=0),
        helper.make_node("Sub", ["one", "nearest"], ["distance"]),
        helper.make_node("Reshape", ["distance", "grid"], ["map"]),
        helper.make_node("ReduceMax", ["map"], ["score"], axes=[1, 2], keepdims=0),
    ]
    ports = [
        helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE_PX, SIDE_PX, 1]),
        helper.make_tensor_value_info("memory", TensorProto.FLOAT, [patches, width]),
    ]
    graph = helper.make_graph(
        nodes,
        "nearest",
        ports[::-1] if memory_first else ports,
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["batch", *GRID_HW]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
