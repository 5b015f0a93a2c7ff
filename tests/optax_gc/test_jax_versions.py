"""A JAX that the library was not written for: modules and names that moved, new primitives.

The primitives of these tests are real ones, with names that have a rule in `infer_axes` and
parameters or operands that the rule does not expect, as a newer JAX may have.
"""

import ast
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import Primitive

import optax_gc
from tests.support.fan_ins import axes_of, f32

W, X = f32(6, 4), f32(3, 6)

# Modules and names

_INFER = """
import optax_gc
w = x = jnp.zeros((3, 3))
loop = lambda w, x: jax.lax.fori_loop(0, 2, lambda i, x: jnp.tanh(x @ w) + 1, x)
assert optax_gc.infer_axes(jax.jit(loop), w, x).axes == (0,)
"""


def _moved(*modules):
    return f"sys.modules |= dict.fromkeys({modules})"  # importing them is an ImportError


@pytest.mark.parametrize(
    "change",
    [
        _moved("jax.extend", "jax.extend.core"),
        _moved("jax.extend.core"),
        _moved("jax.core", "jax.interpreters", "jax.experimental"),
        "import jax.extend.core; del jax.extend.core.Literal",
        "import jax.extend.core; del jax.extend.core.ClosedJaxpr",
    ],
)
def test_infers_without_moved_name(change):
    code = f"import sys, jax, jax.numpy as jnp, optax; {change}\n{_INFER}"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")


def _imports_at_run_time(tree):
    """Yield the modules that a module imports, without those for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from _imports_at_run_time(node)


def test_imports_stable_modules_only():
    files = Path(optax_gc.__file__).parent.glob("*.py")
    imported = {
        name for file in files for name in _imports_at_run_time(ast.parse(file.read_text()))
    }
    assert {name for name in imported if name.split(".")[0] in ("jax", "optax")} == {
        "jax",
        "jax.numpy",
        "jax.typing",
        "optax",
    }


def test_unreadable_jaxpr(monkeypatch):
    """The attributes of a jaxpr are renamed."""
    make_jaxpr = lambda fn: lambda *arrays: types.SimpleNamespace(inputs=arrays)  # noqa: E731
    monkeypatch.setattr(jax, "make_jaxpr", make_jaxpr)
    with pytest.raises(NotImplementedError, match="has no attribute 'invars'") as caught:
        optax_gc.infer_axes(lambda w, x: x @ w, W, X)
    message = str(caught.value)
    assert f"optax_gc {optax_gc.__version__} cannot read the jaxprs of JAX {jax.__version__}" in (
        message
    )
    assert "optax_gc.by_name" in message


# Primitives


def _primitive(name, shape, outputs=None, **params):
    """Return a function that binds a new primitive. Its `outputs` are a list if it is a number."""
    primitive = Primitive(name)
    primitive.multiple_results = outputs is not None

    def abstract_eval(*avals, **_):
        aval = avals[0].update(shape=shape)
        return aval if outputs is None else [aval] * outputs

    primitive.def_abstract_eval(abstract_eval)
    return lambda *operands: primitive.bind(*operands, **params)


_DOT_NUMBERS = (((1,), (0,)), ((), ()))
CHANGED = {  # the primitive of (x, w), and what its rule misses
    "dot_general parameter": (
        _primitive("dot_general", (3, 4), numbers=_DOT_NUMBERS),
        "KeyError: 'dimension_numbers'",
    ),
    "dot_general outputs": (
        _primitive("dot_general", (3, 4), outputs=2, dimension_numbers=_DOT_NUMBERS),
        "ValueError: it has 2 outputs, expected 1",
    ),
    "dot_general numbers": (
        _primitive("dot_general", (3, 4), dimension_numbers=1),
        "TypeError: cannot unpack non-iterable int object",
    ),
    "conv_general_dilated": (
        _primitive("conv_general_dilated", (3, 4), dimension_numbers=(0, 1)),
        "AttributeError: 'tuple' object has no attribute 'rhs_spec'",
    ),
    "concatenate": (_primitive("concatenate", (9, 4), axis=0), "KeyError: 'dimension'"),
    "scan": (_primitive("scan", (3, 4), outputs=1, body=None), "KeyError: 'jaxpr'"),
    "cond": (_primitive("cond", (3, 4), outputs=1, cases=()), "KeyError: 'branches'"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_changed_primitive(name):
    operation, reason = CHANGED[name]
    note = f"lost at {name.split()[0]}, whose form in JAX {jax.__version__} is not known ({reason})"
    assert axes_of(lambda w, x: operation(x, w), W, X) == note


@pytest.mark.parametrize("name", CHANGED)
def test_changed_primitive_beside_a_known_contraction(name):
    operation, _ = CHANGED[name]
    assert axes_of(lambda w, x: (operation(x, w), x @ w), W, X) == (0,)


def test_changed_primitive_in_a_loop():
    operation, _ = CHANGED["dot_general parameter"]

    def fn(w, x):
        return jax.lax.scan(
            lambda total, _: (total + operation(x, w), None), x @ jnp.ones((6, 4)), length=2
        )

    assert axes_of(fn, W, X).startswith("lost at dot_general, whose form in JAX")


@pytest.mark.parametrize("name", ["scaled_matmul_v2", "hi_call", "pcast"])
def test_new_primitive(name):
    operation = _primitive(name, (3, 4))
    assert axes_of(lambda w, x: operation(x, w), W, X) == (
        f"lost at {name}, which infer_axes does not follow"
    )
