"""An abstract interpreter that computes the provenance of every array in a jaxpr.

The classes of jaxprs have moved between JAX versions, so they are imported for type checkers only.
At run time, a jaxpr is recognized by its attributes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp

from optax_gc._dims import UNKNOWN_AXIS, Factor, insert_dim, resize, weight_dims
from optax_gc._provenance import INDEPENDENT, Provenance, Use, not_counted, union
from optax_gc._rules import apply_rule, end_views, lose_views
from optax_gc._shape_rules import shape_of

if TYPE_CHECKING:
    from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

Run: TypeAlias = "functools.partial[list[Provenance]]"
"""From a sub-jaxpr and the provenance of its inputs to the provenance of its outputs."""

ControlFlowRule: TypeAlias = "Callable[[JaxprEqn, Sequence[Provenance], Run], list[Provenance]]"
"""From an equation with sub-jaxprs and its inputs to the provenance of its outputs."""


def interpret(
    jaxpr: Jaxpr | ClosedJaxpr,
    inputs: Sequence[Provenance],
    constants: Provenance = INDEPENDENT,
    in_backward_pass: bool = False,
    has_custom_gradient: bool = False,
) -> list[Provenance]:
    """Evaluate a jaxpr on the provenance of its inputs.

    Args:
      jaxpr: The jaxpr.
      inputs: The provenance of each input.
      constants: The provenance of all arrays that the jaxpr closes over.
      in_backward_pass: Whether the jaxpr is part of a backward pass.
      has_custom_gradient: Whether the jaxpr is part of a `custom_vjp`, so that a gradient can flow
        back through a cast to integers.

    Returns:
      The provenance of each output. It contains all uses of weights that reach an output. Other
      uses do not count, and are dropped.
    """
    opened = open_jaxpr(jaxpr)
    run = functools.partial(
        interpret, in_backward_pass=in_backward_pass, has_custom_gradient=has_custom_gradient
    )
    env = {
        var: _with_dims(var, provenance)
        for var, provenance in zip(opened.invars, inputs, strict=True)
    }
    env |= {var: _with_dims(var, constants) for var in opened.constvars}

    def read(atom) -> Provenance:
        is_literal = hasattr(atom, "val")
        return _with_dims(atom, INDEPENDENT) if is_literal else env[atom]

    for eqn in opened.eqns:
        outputs = _evaluate(eqn, [read(atom) for atom in eqn.invars], run)
        for var, output in zip(eqn.outvars, outputs, strict=True):
            if not _is_differentiable(eqn, var, has_custom_gradient):
                output = output.without_gradient()
            env[var] = _with_dims(var, output)
    return [read(atom) for atom in opened.outvars]


def _with_dims(var, provenance: Provenance) -> Provenance:
    """Return the provenance of an array that is not known to be constant along a dimension."""
    if provenance.views or provenance.dims is not None:
        return provenance
    return provenance._replace(dims=weight_dims(shape_of(var)))


def open_jaxpr(jaxpr: Any) -> Any:
    """Return the jaxpr in a closed jaxpr, and everything else unchanged."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def _evaluate(eqn: JaxprEqn, inputs: Sequence[Provenance], run: Run) -> list[Provenance]:
    is_backward = _is_backward(eqn, run.keywords["in_backward_pass"])
    name = eqn.primitive.name
    try:
        if name in _CONTROL_FLOW_RULES:
            run = functools.partial(run, in_backward_pass=is_backward)
            return _check_count(eqn, _CONTROL_FLOW_RULES[name](eqn, inputs, run))
        outputs = _check_count(eqn, apply_rule(eqn, inputs))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # The parameters and operands of primitives change between JAX versions.
        reason = f"{type(error).__name__}: {error}"
        how = f"lost at {name}, whose form in JAX {jax.__version__} is not known ({reason})"
        outputs = end_views(how)(eqn, inputs)
    if is_backward:
        previous = union(inputs).uses
        outputs = [_in_derivative(output, previous) for output in outputs]
    return outputs


def _in_derivative(output: Provenance, previous: frozenset[Use]) -> Provenance:
    """Return the provenance of an output of a backward pass.

    Only the contractions of the forward pass define the fan-in: those of a backward pass sum the
    output axes.
    """
    new = {
        use if use.axes is None else use._replace(how="contracted in a derivative", axes=None)
        for use in output.uses - previous
    }
    return output._replace(
        views=frozenset(view for view in output.views if view.product is None),
        uses=not_counted(new) | (output.uses & previous),
    )


def _check_count(eqn: JaxprEqn, outputs: list[Provenance]) -> list[Provenance]:
    if len(outputs) != len(eqn.outvars):
        raise ValueError(f"it has {len(eqn.outvars)} outputs, expected {len(outputs)}")
    return outputs


def _is_backward(eqn: JaxprEqn, in_backward_pass: bool) -> bool:
    """Return whether reverse-mode differentiation made this equation, from its name stack."""
    stack = str(eqn.source_info.name_stack)
    return "rematted_computation" not in stack and (in_backward_pass or "transpose(" in stack)


def _is_differentiable(eqn: JaxprEqn, var, has_custom_gradient: bool) -> bool:
    dtype = getattr(var.aval, "dtype", jnp.bool_)
    if has_custom_gradient and jnp.issubdtype(dtype, jnp.integer):
        return eqn.primitive.name not in ("argmax", "argmin", "sort", "top_k")
    return jnp.issubdtype(dtype, jnp.inexact)


# Equations with sub-jaxprs


def _call(eqn, inputs, run):
    jaxprs = [param for param in eqn.params.values() if hasattr(open_jaxpr(param), "eqns")]
    if len(jaxprs) != 1 or len(open_jaxpr(jaxprs[0]).invars) != len(inputs):
        return lose_views(eqn, inputs)
    how = f"lost at {eqn.primitive.name}"
    # The jaxpr of a shard_map has the sizes of one shard, so the dimensions must be resized.
    outputs = run(jaxprs[0], _resize_all(inputs, open_jaxpr(jaxprs[0]).invars, how))
    return _resize_all(outputs, eqn.outvars, how)


def _custom_vjp(eqn, inputs, run):
    return _call(eqn, inputs, functools.partial(run, has_custom_gradient=True))


def _hi_primitive(eqn, inputs, run):
    """Interpret a primitive that JAX expands when it compiles, such as `custom_root`."""
    primitive = eqn.params["_prim"]
    args = [jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in eqn.invars]
    return run(
        jax.make_jaxpr(primitive.expand)(*jax.tree.unflatten(primitive.in_tree, args)), inputs
    )


def _resize_all(provenances, variables, how):
    return [
        provenance.map_dims(
            functools.partial(lambda shape, dims: resize(dims, shape), shape_of(var)), how
        )
        for provenance, var in zip(provenances, variables, strict=True)
    ]


def _cond(eqn, inputs, run):
    index, *operands = inputs
    branches = [run(branch, operands) for branch in eqn.params["branches"]]
    return [union(outputs) | index.without_views for outputs in zip(*branches, strict=True)]


def _while(eqn, inputs, run):
    n_cond, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    cond_consts, body_consts = inputs[:n_cond], inputs[n_cond : n_cond + n_body]

    carry = _fixed_point(
        lambda carry: run(eqn.params["body_jaxpr"], [*body_consts, *carry]),
        inputs[n_cond + n_body :],
    )
    [predicate] = run(eqn.params["cond_jaxpr"], [*cond_consts, *carry])
    return [output | predicate.without_views for output in carry]


def _scan(eqn, inputs, run):
    body = eqn.params["jaxpr"]
    n_consts, n_carry = _scan_counts(eqn)
    consts, carry = inputs[:n_consts], inputs[n_consts : n_consts + n_carry]
    slices = [
        xs.map_dims(lambda dims: dims[1:], "lost at scan") for xs in inputs[n_consts + n_carry :]
    ]

    def step(carry):
        return run(body, [*consts, *carry, *slices])

    outputs = step(_fixed_point(lambda carry: step(carry)[:n_carry], carry))
    steps = Factor(UNKNOWN_AXIS, eqn.params["length"])
    stacked = [
        output.map_dims(lambda dims: insert_dim(dims, 0, steps), "lost at scan")
        for output in outputs[n_carry:]
    ]
    return outputs[:n_carry] + stacked


def _scan_counts(eqn: JaxprEqn) -> tuple[int, int]:
    """Return the numbers of constants and of carries of a scan.

    They are derived from the ranks outside and inside its body, because the parameters that hold
    these numbers changed between JAX 0.10 and 0.12.
    """
    body = eqn.params["jaxpr"]

    def count_same_rank(outer, inner):
        pairs = zip(outer, inner, strict=True)
        return sum(len(shape_of(a)) == len(shape_of(b)) for a, b in pairs)

    n_carry = count_same_rank(eqn.outvars, open_jaxpr(body).outvars)
    return count_same_rank(eqn.invars, open_jaxpr(body).invars) - n_carry, n_carry


def _fixed_point(
    step: Callable[[Sequence[Provenance]], list[Provenance]], carry: Sequence[Provenance]
) -> list[Provenance]:
    """Return the provenance of a loop's carry after any number of steps."""
    while True:
        merged = [old | new for old, new in zip(carry, step(carry), strict=True)]
        if merged == list(carry):
            return merged
        carry = merged


_CONTROL_FLOW_RULES: dict[str, ControlFlowRule] = {
    "cond": _cond,
    "scan": _scan,
    "while": _while,
    "call": _call,
    "call_hi_primitive": _hi_primitive,
    "checkpoint": _call,
    "closed_call": _call,
    "composite": _call,
    "core_call": _call,
    "custom_jvp_call": _call,
    "custom_vjp_call": _custom_vjp,
    "custom_vjp_call_jaxpr": _custom_vjp,
    "custom_vmap_call": _call,
    "eval_jaxpr": _call,
    "jit": _call,
    "pjit": _call,
    "remat": _call,
    "remat2": _call,
    "shard_map": _call,
}
