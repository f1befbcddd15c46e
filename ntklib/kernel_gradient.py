"""Descent in function space: the kernel gradient of a cost, and functions that follow it.

Costs live in `ntklib.costs`, filters and the closed-form flow in `ntklib.filters`; both are
offered here too, so that a chapter needs one import.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from scipy.sparse.linalg import eigsh

from ntklib import _check, _work
from ntklib.costs import Cost, cross_entropy, logistic, mean_square
from ntklib.filters import (
    Filter,
    filtered,
    flat_gram,
    flow,
    gradient_descent,
    gradient_flow,
    ridge_filter,
)
from ntklib.kernels import KernelFunction, as_kernel
from ntklib.rkhs import Element

__all__ = [
    "Cost",
    "Descent",
    "Filter",
    "cross_entropy",
    "descend",
    "filtered",
    "flow",
    "gradient_descent",
    "gradient_flow",
    "kernel_gradient",
    "largest_stable_rate",
    "logistic",
    "mean_square",
    "ridge_filter",
]

BLOCK = 2**35
"""Multiplications between two reports of progress: a second or two."""


def kernel_gradient(kernel: KernelFunction, x: ArrayLike, d: ArrayLike) -> Element:
    """∇_K C = (1/N) Σⱼ K(·, xⱼ) dⱼ, a function of H_K; :eq:`eq-kernel-gradient`.

    Args:
        kernel: any kernel ``k(x1, x2=None)``, scalar (then k ⊗ I) or matrix-valued.
        x: points, shape (N, d).
        d: the dual element of ∂C|_f at the points, ``cost.derivative(f(x))``, shape (N,) or
            (N, m), the dtype of x.

    Returns:
        The kernel gradient, with the points as its centres: it has values everywhere.

    Raises:
        TypeError, ValueError: wrong dtype or shape, NaN or infinite entries.
    """
    x, d = _check.points("x", x), _check.floats("d", d)
    _check.same_dtype(x=x, d=d)
    _check.columns("d", d, len(x))
    return Element(kernel, x, d / len(x))


class Descent(NamedTuple):
    """What `descend` returns."""

    change: Element
    """f_t − f_0, a function of H_K."""
    values: Array
    """f_t(X), shape (N,) or (N, m)."""
    costs: Array
    """C(f_0), C(f_1), …, C(f_t), shape (steps + 1,)."""


def descend(
    kernel: KernelFunction,
    cost: Cost,
    x: ArrayLike,
    start: ArrayLike | Callable[[Array], Array],
    *,
    rate: float,
    steps: int,
    tile: int | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Descent:
    """Kernel gradient descent, f_{t+1} = f_t − rate · ∇_K C|_{f_t}; :eq:`eq-descent`.

    Interrupted and called again with the same arguments, it goes on from its checkpoint.

    Args:
        kernel: any kernel ``k(x1, x2=None)``, scalar (then k ⊗ I) or matrix-valued.
        cost: a `Cost` of the values at the points.
        x: points, shape (N, d).
        start: f_0, a function of points, or its values f_0(X), shape (N,) or (N, m).
        rate: η > 0; below `largest_stable_rate` the cost cannot rise.
        steps: how many, at least 0.
        tile: ``None`` holds the Gram matrix; a number of points computes that many of its
            rows at a time, anew in each step, for a matrix that does not fit in memory.
        progress: whether to show a bar on stderr.
        checkpoint: a file in which the state is kept every few seconds.

    Returns:
        The change f_t − f_0, the values f_t(X), and all costs.

    Raises:
        TypeError, ValueError: wrong dtype or shape, NaN or infinite entries, numbers out of
            range; a checkpoint that is damaged or of another computation.
        FloatingPointError: the cost has overflowed; the rate is too large.
    """
    x = _check.points("x", x)
    f_0 = _check.floats("start", start(x) if callable(start) else start)
    _check.same_dtype(x=x, start=f_0)
    _check.columns("start", f_0, len(x))
    eta: Any = _check.number("rate", rate, above=0)
    steps = _check.integer("steps", steps, at_least=0)
    k = as_kernel(kernel)

    first_costs = np.asarray(cost(f_0))[None]
    file = state = None
    if checkpoint is not None:
        probe = k(x[:8], x)
        identity = ("descend", x, f_0, cost.derivative(f_0), probe, eta, steps)
        file = _work.Checkpoint(checkpoint, _work.fingerprint(*identity))
        state = file.load()
    if state is None:
        state = {"alpha": np.zeros_like(f_0), "values": np.asarray(f_0), "costs": first_costs}
    alpha, values = jnp.asarray(state["alpha"]), jnp.asarray(state["values"])
    costs = [state["costs"]]
    done = len(state["costs"]) - 1

    if tile is None:
        gram = flat_gram(k, x, "start", f_0)
        size = int(np.clip(BLOCK // (gram.size * f_0.size // len(gram)), 1, 1024))
        advance = functools.partial(_advance, gram, size=size)
    else:
        advance = functools.partial(_advance_in_tiles, k, x, _work.tiles(len(x), tile))
        size = 1
    blocks, before = _work.tiles(steps - done, size), done // size
    label = f"descend, blocks of {size} steps"
    for block in _work.progress(
        blocks, label, shown=progress, total=before + len(blocks), start=before
    ):
        n = block.stop - block.start
        alpha, values, found = advance(cost, f_0, alpha, values, eta, n)
        costs.append(np.asarray(found)[:n])
        if not np.isfinite(costs[-1]).all():
            when = done + block.start + int(np.argmin(np.isfinite(costs[-1]))) + 1
            raise FloatingPointError(
                f"rate: with {eta:g} the cost has overflowed after {when} steps; "
                "see largest_stable_rate"
            )
        if file is not None:
            file.save(
                alpha=np.asarray(alpha), values=np.asarray(values), costs=np.concatenate(costs)
            )
    return Descent(Element(k, x, alpha), values, jnp.asarray(np.concatenate(costs)))


def largest_stable_rate(
    kernel: KernelFunction, x: ArrayLike, curvature: float | None = 1.0
) -> float:
    """2 / (curvature · λ_max(K/N)), K = k(X, X); :prf:ref:`thm-discrete`.

    Below it no step of `descend` raises the cost; above it the mean-square cost diverges.

    Args:
        kernel: any kernel ``k(x1, x2=None)``, matrix-valued ones included.
        x: points, shape (N, d).
        curvature: β with N ∂²C/∂u² ≤ β: 1 for the mean square, 1/4 for the logistic cost,
            1/2 for cross-entropy (``cost.curvature``).

    Raises:
        TypeError, ValueError: wrong dtype or shape, NaN or infinite entries, a curvature that
            is unknown (``None``) or not above 0, k(x, x) not symmetric or zero.
    """
    x = _check.points("x", x)
    if curvature is None:
        raise ValueError("curvature: this cost does not say it; expected a bound, a number > 0")
    beta: Any = _check.number("curvature", curvature, above=0)
    gram = flat_gram(kernel, x)
    _check.symmetric("kernel(x)", gram)
    matrix = np.asarray(gram)
    if not matrix.any():
        raise ValueError("kernel: k(x, x) is zero, so no rate is unstable")
    first = np.random.default_rng(0).normal(size=len(matrix)).astype(matrix.dtype)
    alone = len(matrix) == 1
    largest = matrix[0, 0] if alone else eigsh(matrix, 1, which="LA", v0=first)[0][0]
    return float(2 * len(x) / (beta * largest))


def _turn(cost: Cost, alpha: Array, values: Array, rate: ArrayLike) -> Array:
    """The coefficients of f_t − f_0 after one more step."""
    return alpha - rate / len(values) * cost.derivative(values)


@functools.partial(jax.jit, static_argnames="size")
def _advance(
    gram: Array,
    cost: Cost,
    f_0: Array,
    alpha: Array,
    values: Array,
    rate: ArrayLike,
    steps: int,
    *,
    size: int,
) -> tuple[Array, Array, Array]:
    """At most `size` steps with the Gram matrix at hand: coefficients, values, costs."""

    def step(i: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        alpha, values, costs = state
        alpha = _turn(cost, alpha, values, rate)
        values = f_0 + (gram @ alpha.reshape(len(gram), -1)).reshape(f_0.shape)
        return alpha, values, costs.at[i].set(cost(values))

    begin = alpha, values, jnp.zeros(size, values.dtype)
    end: tuple[Array, Array, Array] = jax.lax.fori_loop(0, steps, step, begin)
    return end


_turn_once = jax.jit(_turn)
_cost_of = jax.jit(lambda cost, values: cost(values))


def _advance_in_tiles(
    kernel: KernelFunction,
    x: Array,
    rows: list[slice],
    cost: Cost,
    f_0: Array,
    alpha: Array,
    values: Array,
    rate: ArrayLike,
    steps: int,
) -> tuple[Array, Array, Array]:
    """One step with rows of the Gram matrix made and forgotten."""
    alpha = _turn_once(cost, alpha, values, rate)
    f = Element(kernel, x, alpha)
    change = jnp.concatenate([f(x[some]) for some in rows])
    return alpha, f_0 + change, _cost_of(cost, f_0 + change)[None]
