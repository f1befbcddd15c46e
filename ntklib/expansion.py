"""Networks as functions of their parameters: the Taylor expansion, and its first order.

A network is a function ``apply(params, x)``: params any pytree of float arrays, x a batch of
points. Flax, Equinox and Haiku offer such functions; see `ntklib.tangent`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ntklib import _check

__all__ = ["linearize", "taylor"]

Apply = Callable[[Any, Array], Array]


def linearize(apply: Apply, params: Any) -> Apply:
    """The network's linearisation f_lin(θ', x) = f(θ, x) + ∂_θ f(θ, x) (θ' − θ).

    Args:
        apply: the network, ``apply(params, x)``.
        params: the point θ of expansion, any pytree of arrays, float32 or float64.

    Returns:
        A function ``apply_lin(new_params, x)``, of shape and dtype as apply.

    Raises:
        TypeError, ValueError: as for `taylor`.
    """
    return taylor(apply, params, 1)


def taylor(apply: Apply, params: Any, order: int) -> Apply:
    """The network's Taylor polynomial in the parameters, Σ_k ∂^k f(θ, x) [θ' − θ]^k / k!.

    Args:
        apply: the network, ``apply(params, x)``.
        params: the point θ of expansion, any pytree of arrays, float32 or float64.
        order: the degree, an integer ≥ 0.

    Returns:
        A function ``apply_taylor(new_params, x)``, of shape and dtype as apply.

    Raises:
        TypeError: apply is no function, params hold other than floats of one dtype, or order
            is no integer.
        ValueError: params hold NaN or infinite entries, or order < 0.
    """
    params = network(apply, params)
    order = _check.integer("order", order, at_least=0)

    def apply_taylor(new_params: Any, x: Array) -> Array:
        zero = jnp.zeros((), jax.tree.leaves(params)[0].dtype)
        step = jax.tree.map(jnp.subtract, new_params, params)

        def along(t: Array) -> Array:
            """The network on the line from θ at t = 0 to θ' at t = 1."""
            return apply(jax.tree.map(lambda p, s: p + t * s, params, step), x)

        total = along(zero)
        derivative: Callable[[Array], Array] = along
        for k in range(1, order + 1):
            derivative = _derivative(derivative)
            total = total + derivative(zero) / math.factorial(k)
        return total

    return apply_taylor


def _derivative(f: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda t: jax.jvp(f, (t,), (jnp.ones_like(t),))[1]


def network(apply: Apply, params: Any) -> Any:
    """The params as arrays; a check that the two are a network.

    Raises:
        TypeError: apply is no function, or params hold other than floats of one dtype.
        ValueError: no params, NaN or infinite entries.
    """
    if not callable(apply):
        raise TypeError(f"apply: expected a function apply(params, x), got {apply!r}")
    paths, form = jax.tree_util.tree_flatten_with_path(params)
    if not paths:
        raise ValueError("params: expected at least one array")
    named = {f"params{jax.tree_util.keystr(path)}": leaf for path, leaf in paths}
    leaves = {name: _check.floats(name, leaf) for name, leaf in named.items()}
    _check.same_dtype(**leaves)
    return jax.tree.unflatten(form, list(leaves.values()))
