"""Gradient centralization for JAX, correct for every weight layout."""

from optax_gc import diagnostics, official
from optax_gc._centralize import centralize
from optax_gc._decay import decay_and_centralize
from optax_gc._explain import explain
from optax_gc._infer import infer_axes
from optax_gc._layouts import FanIn, KeyPath, first_axis_out, last_axis_out, whole_tensor
from optax_gc._muon import muon_dimension_numbers
from optax_gc._names import by_name
from optax_gc._plan import Axes, Rule
from optax_gc._version import __version__

__all__ = [
    "Axes",
    "FanIn",
    "KeyPath",
    "Rule",
    "__version__",
    "by_name",
    "centralize",
    "decay_and_centralize",
    "diagnostics",
    "explain",
    "first_axis_out",
    "infer_axes",
    "last_axis_out",
    "muon_dimension_numbers",
    "official",
    "whole_tensor",
]
