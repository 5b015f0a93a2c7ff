"""An abstract interpreter that follows weights through a jaxpr and the programs within it."""

import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from optax_gc._provenance import PIECES, UNRELATED, Factor, Value, fit, inserted, retire, union
from optax_gc._rules import apply, lose, shape_of

Run: TypeAlias = Callable[[Jaxpr | ClosedJaxpr, Sequence[Value]], list[Value]]
Rule: TypeAlias = Callable[[JaxprEqn, Sequence[Value], Run], list[Value]]


def interpret(
    program: Jaxpr | ClosedJaxpr,
    inputs: Sequence[Value],
    constants: Value = UNRELATED,
    backward: bool = False,
) -> list[Value]:
    """Runs `program` on what is known of its inputs instead of on arrays.

    Args:
      program: the jaxpr.
      inputs: one `Value` per input.
      constants: the `Value` of every array that the program closes over.
      backward: whether the program is a part of a backward pass.

    Returns:
      One `Value` per output. Nothing else comes of it: what a weight is used for is known from
      the outputs that the use reaches.
    """
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    known = dict(zip(jaxpr.invars, inputs, strict=True)) | dict.fromkeys(jaxpr.constvars, constants)

    def read(atom) -> Value:
        return UNRELATED if isinstance(atom, Literal) else known[atom]

    for eqn in jaxpr.eqns:
        outputs = _apply(eqn, [read(atom) for atom in eqn.invars], backward)
        for var, output in zip(eqn.outvars, outputs, strict=True):
            known[var] = output if _is_differentiable(var) else output.detached()
    return [read(atom) for atom in jaxpr.outvars]


def _apply(eqn: JaxprEqn, values: Sequence[Value], backward: bool) -> list[Value]:
    backward = _is_backward(eqn, backward)
    name = eqn.primitive.name
    if name in _RULES:
        run = functools.partial(interpret, backward=backward)
        return _RULES[name](eqn, values, run)
    outputs = apply(eqn, values)
    if backward:  # the model's contractions are those of its forward pass
        before = union(values).uses
        outputs = [
            output._replace(uses=retire(output.uses - before) | (output.uses & before))
            for output in outputs
        ]
    return outputs


def _is_backward(eqn: JaxprEqn, backward: bool) -> bool:
    """Whether reverse-mode differentiation made this equation, as JAX's name stack tells."""
    stack = str(eqn.source_info.name_stack)
    return "rematted_computation" not in stack and (backward or "transpose(" in stack)


def _is_differentiable(var) -> bool:
    return jnp.issubdtype(getattr(var.aval, "dtype", jnp.bool_), jnp.inexact)


# Programs within programs.


def _call(eqn, values, run):
    bodies = [param for param in eqn.params.values() if isinstance(param, Jaxpr | ClosedJaxpr)]
    if len(bodies) != 1 or len(_inputs(bodies[0])) != len(values):
        return lose(eqn, values)
    how = f"lost at {eqn.primitive.name}"  # a shard_map's body sees shards: other lengths
    outputs = run(bodies[0], _fitted(values, _inputs(bodies[0]), how))
    return _fitted(outputs, eqn.outvars, how)


def _fitted(values, variables, how):
    return [
        value.moved(functools.partial(lambda shape, dims: fit(dims, shape), shape_of(var)), how)
        for value, var in zip(values, variables, strict=True)
    ]


def _cond(eqn, values, run):
    index, *operands = values
    branches = [run(branch, operands) for branch in eqn.params["branches"]]
    return [union(outputs) | index.history for outputs in zip(*branches, strict=True)]


def _while(eqn, values, run):
    n_cond, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    cond_consts, body_consts = values[:n_cond], values[n_cond : n_cond + n_body]

    carry = _fixpoint(
        lambda carry: run(eqn.params["body_jaxpr"], [*body_consts, *carry]),
        values[n_cond + n_body :],
    )
    [test] = run(eqn.params["cond_jaxpr"], [*cond_consts, *carry])
    return [output | test.history for output in carry]


def _scan(eqn, values, run):
    body = eqn.params["jaxpr"]
    n_consts, n_carry = _scan_layout(eqn)
    consts, carry = values[:n_consts], values[n_consts : n_consts + n_carry]
    slices = [
        value.moved(lambda dims: dims[1:], "lost at scan") for value in values[n_consts + n_carry :]
    ]

    def step(carry):
        return run(body, [*consts, *carry, *slices])

    outputs = step(_fixpoint(lambda carry: step(carry)[:n_carry], carry))
    layers = Factor(PIECES, eqn.params["length"])
    stacked = [
        output.moved(lambda dims: inserted(dims, 0, layers), "lost at scan")
        for output in outputs[n_carry:]
    ]
    return outputs[:n_carry] + stacked


def _scan_layout(eqn: JaxprEqn) -> tuple[int, int]:
    """How many constants and carries a scan has, read off the ranks that its body sees.

    JAX changed the parameters that say so between 0.10 and 0.12; this is the one place to care.
    """
    body = eqn.params["jaxpr"]

    def same_rank(outer, inner):
        pairs = zip(outer, inner, strict=True)
        return sum(len(shape_of(a)) == len(shape_of(b)) for a, b in pairs)

    n_carry = same_rank(eqn.outvars, body.jaxpr.outvars)
    return same_rank(eqn.invars, _inputs(body)) - n_carry, n_carry


def _fixpoint(step: Callable[[Sequence[Value]], list[Value]], carry: Sequence[Value]):
    """All that a loop's carry may be after any number of steps."""
    while True:
        after = [old | new for old, new in zip(carry, step(carry), strict=True)]
        if after == list(carry):
            return after
        carry = after


def _inputs(program: Jaxpr | ClosedJaxpr):
    return program.jaxpr.invars if isinstance(program, ClosedJaxpr) else program.invars


_RULES: dict[str, Rule] = {
    "cond": _cond,
    "scan": _scan,
    "while": _while,
    "call": _call,
    "checkpoint": _call,
    "closed_call": _call,
    "composite": _call,
    "core_call": _call,
    "custom_jvp_call": _call,
    "custom_vjp_call": _call,
    "custom_vjp_call_jaxpr": _call,
    "custom_vmap_call": _call,
    "eval_jaxpr": _call,
    "jit": _call,
    "pjit": _call,
    "remat": _call,
    "remat2": _call,
    "shard_map": _call,
}
