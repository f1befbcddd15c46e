"""The names that neural-tangents 0.6.5 misses on current JAX, put back from outside.

Its analytic kernels then run. Its tangent kernels of finite networks, which look into JAX's
intermediate programs, do not, nor does its way by TensorFlow, which is left out.
"""

import sys
from types import ModuleType
from typing import Any

import jax
from jax._src import ad_util, core, util
from jax._src.interpreters import ad as its_own
from jax.interpreters import ad

CORE = ("AbstractValue", "Jaxpr", "JaxprEqn", "Literal", "Primitive", "ShapedArray", "Value", "Var")
AD = ("Zero", "UndefinedPrimal", "instantiate_zeros", "zeros_like_p", "add_jaxvals_p")


def names() -> None:
    """Put them back; to be called before neural_tangents is imported."""
    for name in CORE:
        _put(jax.core, name, core)
    for name in AD:
        _put(ad, name, its_own, ad_util)
    module: Any = ModuleType("jax.util")
    module.safe_map, module.safe_zip = util.safe_map, util.safe_zip
    sys.modules["jax.util"] = jax.util = module  # type: ignore[attr-defined]
    sys.modules["neural_tangents.experimental"] = ModuleType("neural_tangents.experimental")


def _put(place: Any, name: str, *sources: Any) -> None:
    try:
        getattr(place, name)
    except AttributeError:
        found = [getattr(source, name) for source in sources if hasattr(source, name)]
        # One that is gone altogether is only looked up, and never met by analytic kernels.
        setattr(place, name, found[0] if found else core.Primitive(f"restored_{name}"))
