"""Operators of ONNX, computed by ONNX Runtime, to compare the trainer's with."""

import functools

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

_OPSET = 16  # the first whose RoiAlign has half-pixel coordinates
_IR_VERSION = 8


@functools.cache
def _session(operator, inputs, **attributes):
    node = helper.make_node(operator, [name for name, _ in inputs], ["output"], **attributes)
    values = [helper.make_tensor_value_info(name, dtype, None) for name, dtype in inputs]
    dtype = TensorProto.INT64 if operator == "NonMaxSuppression" else TensorProto.FLOAT
    output = helper.make_tensor_value_info("output", dtype, None)
    graph = helper.make_graph([node], "graph", values, [output])
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=providers)


def nms(boxes, scores, threshold):
    """Return which boxes greedy non-maximum suppression keeps, bool (n,)."""
    float32, int64 = TensorProto.FLOAT, TensorProto.INT64
    inputs = (("boxes", float32), ("scores", float32), ("limit", int64), ("iou", float32))
    (selected,) = _session("NonMaxSuppression", inputs).run(
        None,
        {
            "boxes": boxes[None],
            "scores": scores[None, None],
            "limit": np.array([len(boxes)]),
            "iou": np.array([threshold], np.float32),
        },
    )
    kept = np.zeros(len(boxes), bool)
    kept[selected[:, 2]] = True
    return kept


def roi_align(features, boxes, stride, size):
    """Return the features of boxes, (n, size, size, features), from one map (h, w, features)."""
    inputs = (
        ("features", TensorProto.FLOAT),
        ("boxes", TensorProto.FLOAT),
        ("images", TensorProto.INT64),
    )
    session = _session(
        "RoiAlign",
        inputs,
        output_height=size,
        output_width=size,
        sampling_ratio=2,
        spatial_scale=1 / stride,
        coordinate_transformation_mode="half_pixel",
    )
    maps = np.ascontiguousarray(features.transpose(2, 0, 1)[None])
    images = np.zeros(len(boxes), np.int64)
    (output,) = session.run(None, {"features": maps, "boxes": boxes, "images": images})
    return output.transpose(0, 2, 3, 1)
