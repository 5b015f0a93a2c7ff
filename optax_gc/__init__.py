"""Gradient centralization for JAX, right for the axes of every layout."""

from optax_gc import diagnostics as diagnostics
from optax_gc import official as official
from optax_gc._centralize import centralize as centralize
from optax_gc._explain import explain as explain
from optax_gc._infer import infer_axes as infer_axes
from optax_gc._layouts import FanIn as FanIn
from optax_gc._layouts import by_name as by_name
from optax_gc._layouts import first_axis_out as first_axis_out
from optax_gc._layouts import last_axis_out as last_axis_out
from optax_gc._layouts import whole_tensor as whole_tensor
from optax_gc._version import __version__ as __version__
