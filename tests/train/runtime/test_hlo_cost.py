"""Kernels, bytes and operations that are counted in the text of a compiled program."""

import jax
import jax.numpy as jnp
import pytest

from train.runtime import hlo_cost

# As XLA writes it, without the attributes that are not read.
MODULE = """
HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[2,3]{1,0})->f32[2,3]{1,0}}

%fused_computation (param_0: f32[2,3]) -> f32[2,3] {
  %param_0 = f32[2,3]{1,0} parameter(0)
  ROOT %add.1 = f32[2,3]{1,0} add(%param_0, %param_0)
}

ENTRY %main (x: f32[8,16,16,4], k: f32[3,3,4,6]) -> (f32[8,16,16,6], u8[0]) {
  %x = f32[8,16,16,4]{3,2,1,0} parameter(0)
  %k = f32[3,3,4,6]{3,2,1,0} parameter(1)
  %fusion.1 = f32[8,16,16,4]{3,2,1,0} fusion(%x), kind=kLoop, calls=%fused_computation
  %copy.2 = f32[3,3,4,6]{2,1,0,3} copy(%k)
  %cudnn-conv = (f32[8,16,16,6]{3,2,1,0}, u8[1024]{0}) custom-call(%fusion.1, %copy.2), \
window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, \
custom_call_target="__cudnn$convForward"
  %gte = f32[8,16,16,6]{3,2,1,0} get-tuple-element(%cudnn-conv), index=0
  %bitcast.3 = f32[2048,6]{1,0} bitcast(%gte)
  %w = f32[6,6]{1,0} constant({...})
  %gemm = (f32[2048,6]{1,0}, s8[64]{0}) custom-call(%bitcast.3, %w), \
custom_call_target="__cublas$gemm"
  ROOT %tuple = (f32[8,16,16,6]{3,2,1,0}) tuple(%gte)
}
"""
IMAGES, KERNEL, OUTPUT = 8 * 16 * 16 * 4, 3 * 3 * 4 * 6, 8 * 16 * 16 * 6


def test_kernels_of_a_module():
    fusion, copy, conv, gemm = hlo_cost.kernels(MODULE)
    assert fusion == ("fusion", 4 * 2 * IMAGES, 0)
    assert copy == ("copy", 4 * 2 * KERNEL, 0)
    assert conv.bytes == 4 * (IMAGES + KERNEL + OUTPUT) + 1024
    assert conv.flops == 2 * OUTPUT * 3 * 3 * 4
    assert gemm.flops == 2 * 2048 * 6 * 6
    assert [kernel.only_copies for kernel in (fusion, copy, conv, gemm)] == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("target", "operands", "result"),
    [
        ("Forward", ("f32[8,16,16,4]", "f32[3,3,4,6]"), "f32[8,16,16,6]"),
        ("BackwardInput", ("f32[8,16,16,6]", "f32[3,3,4,6]"), "f32[8,16,16,4]"),
        ("BackwardFilter", ("f32[8,16,16,4]", "f32[8,16,16,6]"), "f32[3,3,4,6]"),
        ("BiasActivationForward", ("f32[8,16,16,4]", "f32[3,3,4,6]"), "f32[8,16,16,6]"),
    ],
)
def test_convolutions_and_their_gradients_have_equal_flops(target, operands, result):
    text = "ENTRY %main () -> f32[] {\n"
    for name, shape in zip("ab", operands, strict=True):
        text += f"  %{name} = {shape}{{3,2,1,0}} parameter(0)\n"
    text += (
        f"  %c = ({result}{{3,2,1,0}}, u8[0]{{0}}) custom-call(%a, %b), "
        f'dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$conv{target}"\n}}\n'
    )
    (kernel,) = hlo_cost.kernels(text)
    assert kernel.flops == 2 * OUTPUT * 3 * 3 * 4


def test_estimate_takes_the_longer_of_bytes_and_flops():
    kernels = [hlo_cost.Kernel("fusion", 1000, 0.0), hlo_cost.Kernel("custom-call", 10, 5000.0)]
    seconds = hlo_cost.estimate_seconds(kernels, bandwidth=1e6, flops_per_second=1e6)
    assert seconds == pytest.approx(1e-3 + 5e-3 + 2 * 2.5e-6)


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2), ("int8", 1)])
def test_bytes_of_a_program_that_this_machine_compiles(dtype, size):
    """A loop counts with the kernels of its body, whatever the names in the text are."""
    x = jnp.ones((64, 32), dtype)
    compiled = jax.jit(lambda x: (x + x).T + x.T).lower(x).compile()
    found = hlo_cost.kernels(compiled.as_text())
    assert sum(kernel.bytes for kernel in found) >= 2 * size * 64 * 32
    loop = jax.jit(lambda x: jax.lax.fori_loop(0, 7, lambda _, y: y + x, x)).lower(x).compile()
    assert sum(kernel.bytes for kernel in hlo_cost.kernels(loop.as_text())) >= 2 * size * 64 * 32
