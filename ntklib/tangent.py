"""The tangent kernel of any parametrised function, and its Taylor expansion in the parameters.

A network is a function ``apply(params, x)``: params any pytree of float arrays, x a batch of
points, shape (n, d), the result shape (n, m), or (n,) for one output. Each point is treated
apart, so a batch of one is as good as any. Flax, Equinox and Haiku offer such a function.
"""

import math
from collections.abc import Callable
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ntklib import _check
from ntklib.kernels import Kernel, pytree, set_fields

__all__ = ["Tangent", "linearize", "tangent_kernel", "taylor"]

Apply = Callable[[Any, Array], Array]

SUMS = {"full": "iap,jbp->ijab", "trace": "iap,jap->ij", "diagonal": "iap,jap->ija"}


@pytree
class Tangent(Kernel):
    """Θ(x, x') = Σ_p ∂_p f(x) ⊗ ∂_p f(x'), over all parameters p; made by `tangent_kernel`."""

    params: Any
    apply: Apply = field(metadata={"static": True})
    outputs: str = field(metadata={"static": True}, default="full")

    def __post_init__(self) -> None:
        if not callable(self.apply):
            raise TypeError(f"apply: expected a function apply(params, x), got {self.apply!r}")
        set_fields(self, params=_float_tree("params", self.params))
        if self.outputs not in SUMS:
            raise ValueError(f"outputs: expected one of {', '.join(SUMS)}, got {self.outputs!r}")

    def _gram(self, x1: Array, x2: Array) -> Array:
        _check.same_dtype(x1=x1, params=jax.tree.leaves(self.params)[0])
        gram: Array = _contract(self, x1, x2)
        return gram


def tangent_kernel(apply: Apply, params: Any, *, outputs: str = "full") -> Tangent:
    """The tangent kernel Θ(x, x') = Σ_p ∂_p f(x) ⊗ ∂_p f(x') of f = apply(params, ·).

    Args:
        apply: the network, ``apply(params, x)``: x of shape (n, d), result (n, m) or (n,).
        params: any pytree of arrays, float32 or float64.
        outputs: ``"full"``, a kernel of shape (n1, n2, m, m), or (n1, n2) where apply returns
            (n,); ``"trace"``, (1/m) Σ_a Θ_aa, shape (n1, n2); ``"diagonal"``, the Θ_aa alone,
            shape (n1, n2, m), or (n1, n2) where apply returns (n,).

    Returns:
        The kernel, a function ``k(x1, x2=None)``.

    Raises:
        TypeError: apply is no function, or params hold other than floats of one dtype.
        ValueError: outputs is none of the three, or params hold NaN or infinite entries.
    """
    return Tangent(params, apply, outputs)


def linearize(apply: Apply, params: Any) -> Apply:
    """The network's linearisation f_lin(θ', x) = f(θ, x) + ∂_θ f(θ, x) (θ' − θ).

    Args:
        apply: the network, ``apply(params, x)``.
        params: the point θ of expansion, any pytree of float arrays.

    Returns:
        A function ``apply_lin(new_params, x)``, of shape and dtype as apply.

    Raises:
        TypeError, ValueError: as for `tangent_kernel`.
    """
    return taylor(apply, params, 1)


def taylor(apply: Apply, params: Any, order: int) -> Apply:
    """The network's Taylor polynomial in the parameters, Σ_k ∂^k f(θ, x) [θ' − θ]^k / k!.

    Args:
        apply: the network, ``apply(params, x)``.
        params: the point θ of expansion, any pytree of float arrays.
        order: the degree, an integer ≥ 0.

    Returns:
        A function ``apply_taylor(new_params, x)``, of shape and dtype as apply.

    Raises:
        TypeError, ValueError: as for `tangent_kernel`, or order no integer ≥ 0.
    """
    params = _float_tree("params", params)
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


@jax.jit
def _contract(kernel: Tangent, x1: Array, x2: Array) -> Array:
    """Form both Jacobians, and sum over the parameters."""
    outputs = _outputs(kernel, x1)

    def jacobian(x: Array) -> list[Array]:
        """∂f_a(xᵢ)/∂θ_p, shape (n, m, P) for every leaf of params, m = 1 for a scalar f."""

        def f(params: Any, point: Array) -> Array:
            return kernel.apply(params, point[None])[0]

        leaves = jax.tree.leaves(jax.vmap(jax.jacrev(f), (None, 0))(kernel.params, x))
        return [leaf.reshape(len(x), math.prod(outputs), -1) for leaf in leaves]

    terms = [
        jnp.einsum(SUMS[kernel.outputs], a, b)
        for a, b in zip(jacobian(x1), jacobian(x2), strict=True)
    ]
    gram = sum(terms[1:], start=terms[0])
    if kernel.outputs == "trace":
        return gram / math.prod(outputs)
    return gram if outputs else gram.reshape(len(x1), len(x2))


def _outputs(kernel: Tangent, x: Array) -> tuple[int, ...]:
    """(m,), or () where apply returns shape (n,)."""
    out = jax.eval_shape(kernel.apply, kernel.params, x)
    if out.ndim not in (1, 2) or len(out) != len(x) or out.size == 0:
        raise ValueError(
            f"apply(params, x): expected shape ({len(x)}, m) or ({len(x)},), got {out.shape}"
        )
    return tuple(out.shape[1:])


def _float_tree(name: str, params: Any) -> Any:
    """The pytree with every leaf a float array, all of one dtype."""
    paths, form = jax.tree_util.tree_flatten_with_path(params)
    if not paths:
        raise ValueError(f"{name}: expected at least one array")
    named = {name + jax.tree_util.keystr(path): leaf for path, leaf in paths}
    leaves = {path: _check.floats(path, leaf) for path, leaf in named.items()}
    _check.same_dtype(**leaves)
    return jax.tree.unflatten(form, list(leaves.values()))
