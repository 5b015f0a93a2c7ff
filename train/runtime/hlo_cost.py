"""Kernels and bytes of a compiled GPU program, counted in its text."""

import math
import re
from typing import NamedTuple

_BYTES = {
    "pred": 1,
    **dict.fromkeys(("s8", "u8"), 1),
    **dict.fromkeys(("s16", "u16", "f16", "bf16"), 2),
    **dict.fromkeys(("s32", "u32", "f32"), 4),
    **dict.fromkeys(("s64", "u64", "f64", "c64"), 8),
    "c128": 16,
}
_ARRAY = re.compile(r"\b([a-z]+[0-9]*)\[([0-9,]*)\]")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z0-9-]*)\((.*)$")
_OPERAND = re.compile(r"%([\w.-]+)")
# Instructions that launch no kernel: they name, pass or reinterpret arrays.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("opt-barrier", "partition-id", "replica-id", "copy-done", "all-reduce-done", "async-done"),
}


_LAUNCH_SECONDS = 2.5e-6
_MATMUL = re.compile(r'custom_call_target="__cublas')
_CONVOLUTION = re.compile(r'custom_call_target="__cudnn\$conv(\w+?)"')
_CONVOLUTION_LABELS = re.compile(r"dim_labels=\w+_(\w+)->")


class Kernel(NamedTuple):
    """One kernel: a fusion, a copy, a library call or a collective.

    Attributes:
      opcode: The HLO opcode.
      bytes: What it reads and writes, in bytes: the sizes of its operands and results.
      flops: Floating-point operations of a convolution or a matrix product; 0 for other kernels.
    """

    opcode: str
    bytes: int
    flops: float

    @property
    def only_copies(self) -> bool:
        """Whether it only copies an array."""
        return self.opcode in ("copy", "copy-start")


def kernels(hlo: str) -> list[Kernel]:
    """Return the kernels of one execution of a scheduled HLO module, in no order.

    A loop counts as the kernels of one iteration of its condition and of its body.
    """
    computations = _computations(hlo)
    found: list[Kernel] = []
    pending = [name for name in computations if computations[name].is_entry]
    while pending:
        for instruction in computations[pending.pop()].instructions:
            if instruction.kernel.opcode in ("while", "conditional", "call"):
                pending += [name for name in instruction.called if name in computations]
            elif instruction.kernel.opcode not in _FREE:
                found.append(instruction.kernel)
    return found


def estimate_seconds(found: list[Kernel], bandwidth: float, flops_per_second: float) -> float:
    """Return an estimate of the time of some kernels that run one after another.

    Each one takes a launch, and the longer of the times for its bytes and its operations.
    """
    return sum(
        _LAUNCH_SECONDS + max(kernel.bytes / bandwidth, kernel.flops / flops_per_second)
        for kernel in found
    )


class _Instruction(NamedTuple):
    kernel: Kernel
    called: list[str]


class _Computation(NamedTuple):
    is_entry: bool
    instructions: list[_Instruction]


def _computations(hlo: str) -> dict[str, _Computation]:
    """Return the computations of a module by name."""
    found: dict[str, _Computation] = {}
    current: _Computation | None = None
    shapes: dict[str, str] = {}
    for line in hlo.splitlines():
        if line.endswith("{") and not line.startswith(" ") and "(" in line:
            name = line.removeprefix("ENTRY ").lstrip("%").split(" ")[0].split("(")[0]
            current = found[name] = _Computation(line.startswith("ENTRY"), [])
            shapes = {}
        elif current and (match := _INSTRUCTION.match(line)):
            name, shape, opcode, rest = match.groups()
            shapes[name] = shape
            operands, _, attributes = rest.partition(")")
            operand_shapes = [shapes.get(operand, "") for operand in _OPERAND.findall(operands)]
            kernel = Kernel(
                opcode,
                _size(shape) + sum(map(_size, operand_shapes)),
                _flops(shape, operand_shapes, attributes),
            )
            current.instructions.append(_Instruction(kernel, _OPERAND.findall(attributes)))
    return found


def _size(shape: str) -> int:
    """Return the bytes of an array, or of all arrays of a tuple."""
    return sum(_BYTES.get(dtype, 0) * math.prod(sides) for dtype, sides in _arrays(shape))


def _arrays(shape: str) -> list[tuple[str, list[int]]]:
    """Return the dtype and the sides of an array, or of all arrays of a tuple."""
    return [
        (dtype, [int(side) for side in sides.split(",") if side])
        for dtype, sides in _ARRAY.findall(shape)
    ]


def _flops(shape: str, operands: list[str], attributes: str) -> float:
    """Return the operations of a library call; 0 if it is no convolution or matrix product."""
    if _MATMUL.search(attributes):
        sizes = [math.prod(_arrays(each)[0][1]) for each in (*operands[:2], shape)]
        return 2 * math.sqrt(math.prod(sizes))  # (m k) (k n) (m n) is (m k n)^2
    match, labels = _CONVOLUTION.search(attributes), _CONVOLUTION_LABELS.search(attributes)
    if not match or not labels:
        return 0.0
    first, second = (_arrays(operand)[0][1] for operand in operands[:2])
    result = _arrays(shape)[0][1]
    if match[1] == "BackwardFilter":
        kernel, output = result, second
    elif match[1] == "BackwardInput":
        kernel, output = second, first
    else:
        kernel, output = second, result
    return 2 * math.prod(output) * math.prod(kernel) / kernel[labels[1].index("o")]
