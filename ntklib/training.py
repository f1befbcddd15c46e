"""Training the parameters of any network: by steps, by flow, and how curved it is on the way.

A network is a function ``apply(params, x)``, as in `ntklib.tangent`, and a cost a function of
its values at the data, as in `ntklib.costs`.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from scipy.sparse.linalg import LinearOperator, eigsh

from ntklib import _check, _work
from ntklib.costs import Cost
from ntklib.expansion import Apply, network

__all__ = ["Trained", "hessian_norm", "rescaled", "train", "train_flow"]

BLOCK = 64
"""Steps between two reports of progress."""


class Trained(NamedTuple):
    """What `train` returns.

    Attributes:
        params: the parameters after the last step.
        costs: C(f_0), C(f_1), …, shape (steps + 1,).
    """

    params: Any
    costs: Array


def train(
    apply: Apply,
    params: Any,
    cost: Callable[[Array], Array],
    x: ArrayLike,
    *,
    rate: float,
    steps: int,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Trained:
    """Gradient descent in the parameters, θ_{t+1} = θ_t − rate · ∇_θ C(f_θ(X)).

    Interrupted and called again with the same arguments, it goes on from its checkpoint.

    Args:
        apply: the network, ``apply(params, x)``.
        params: where to start, any pytree of arrays, float32 or float64.
        cost: of the values apply(params, x): a `Cost`, or a function in JAX.
        x: the data, shape (N, ...), the dtype of params.
        rate: η > 0.
        steps: how many, at least 0.
        progress: whether to show a bar on stderr.
        checkpoint: a file in which the state is kept.

    Returns:
        The parameters after the last step, and all costs.

    Raises:
        TypeError, ValueError: wrong dtype or shape, NaN or infinite entries, numbers out of
            range; a checkpoint that is damaged or of another computation.
        FloatingPointError: the cost has overflowed; the rate is too large.
    """
    params, points, functional = _problem(apply, params, cost, x)
    eta: Any = _check.number("rate", rate, above=0)
    steps = _check.integer("steps", steps, at_least=0)
    leaves, form = jax.tree.flatten(params)
    costs = [np.asarray(functional(apply(params, points)))[None]]
    file = None
    if checkpoint is not None:
        slope = jax.tree.leaves(_slope(apply, functional, points, params))
        parts = ("train", leaves, slope, points, costs[0], eta, steps)
        file = _work.Checkpoint(checkpoint, _work.fingerprint(*parts))
        stored = file.load()
        if stored is not None:
            costs = [stored.pop("costs")]
            found = [jnp.asarray(stored[f"leaf{i}"]) for i in range(len(leaves))]
            params = jax.tree.unflatten(form, found)
    done = len(costs[0]) - 1
    blocks = _work.progress(
        _work.tiles(steps - done, BLOCK),
        f"train, blocks of {BLOCK} steps",
        shown=progress,
        total=-(-steps // BLOCK),
        start=done // BLOCK,
    )
    for block in blocks:
        n = block.stop - block.start
        params, after = _descend(apply, functional, points, params, eta, n)
        costs.append(np.asarray(after)[:n])
        if not np.isfinite(costs[-1]).all():
            raise FloatingPointError(f"rate: with {eta:g} the cost has overflowed")
        if file is not None:
            kept = {f"leaf{i}": np.asarray(a) for i, a in enumerate(jax.tree.leaves(params))}
            file.save(costs=np.concatenate(costs), **kept)
    return Trained(params, jnp.asarray(np.concatenate(costs)))


def train_flow(
    apply: Apply,
    params: Any,
    cost: Callable[[Array], Array],
    x: ArrayLike,
    times: ArrayLike,
    *,
    tolerance: float | None = None,
) -> Any:
    """Gradient flow in the parameters, θ̇ = −∇_θ C(f_θ(X)), by diffrax.

    Args:
        apply: the network, ``apply(params, x)``.
        params: where to start, any pytree of arrays, float32 or float64.
        cost: of the values apply(params, x): a `Cost`, or a function in JAX.
        x: the data, shape (N, ...), the dtype of params.
        times: increasing, the first ≥ 0, shape (T,), the dtype of x.
        tolerance: relative and absolute error of a step; ``None`` means 10⁻⁸ in float64 and
            10⁻⁶ in float32.

    Returns:
        The parameters at the times, a pytree like params with a first axis of length T.

    Raises:
        TypeError, ValueError: wrong dtype or shape, NaN or infinite entries, numbers out of
            range.
    """
    params, points, functional = _problem(apply, params, cost, x)
    when = _check.floats("times", times)
    _check.same_dtype(x=points, times=when)
    if when.ndim != 1 or when.size == 0:
        raise ValueError(f"times: expected shape (T,), got {when.shape}")
    if not isinstance(when, jax.core.Tracer):
        known = np.asarray(when)  # inside jit an operation of JAX would trace it
        if known[0] < 0 or (np.diff(known) <= 0).any():
            raise ValueError("times: expected increasing numbers ≥ 0")
    default = 1e-8 if points.dtype == np.float64 else 1e-6
    error: Any = default if tolerance is None else _check.number("tolerance", tolerance, above=0)
    return _flow(apply, functional, points, params, when, error)


def rescaled(apply: Apply, params: Any, scale: float) -> Apply:
    """The network scale · (f_θ' − f_θ): it starts at 0, and a large scale makes it lazy.

    Args:
        apply: the network, ``apply(params, x)``.
        params: the parameters θ at the start, any pytree of arrays, float32 or float64.
        scale: α, a number > 0. The tangent kernel is multiplied by α².

    Returns:
        A function ``apply_scaled(new_params, x)``, of shape and dtype as apply.

    Raises:
        TypeError, ValueError: as for `ntklib.expansion.taylor`, or a scale ≤ 0.
    """
    origin = network(apply, params)
    alpha = _check.number("scale", scale, above=0)

    def apply_scaled(new_params: Any, x: Array) -> Array:
        return jnp.multiply(alpha, apply(new_params, x) - apply(origin, x))

    return apply_scaled


def hessian_norm(apply: Apply, params: Any, x: ArrayLike) -> Array:
    """The spectral norm of ∂²f_a(x)/∂θ² at each point and output, by Lanczos' method.

    Args:
        apply: the network, ``apply(params, x)``.
        params: any pytree of arrays, float32 or float64, two numbers at least.
        x: points, shape (n, ...), the dtype of params.

    Returns:
        Shape (n, m), or (n,) where apply returns (n,).

    Raises:
        TypeError, ValueError: wrong dtype or shape, NaN or infinite entries.
    """
    params = network(apply, params)
    points = _check.floats("x", x)
    flat, back = ravel_pytree(params)
    if len(flat) < 2:
        raise ValueError("params: expected two numbers at least")
    start = np.random.default_rng(0).normal(size=len(flat)).astype(flat.dtype)

    @jax.jit
    def product(i: int, v: Array) -> Array:
        gradient = jax.grad(lambda p: apply(back(p), points).reshape(-1)[i])
        return jnp.asarray(jax.jvp(gradient, (flat,), (v,))[1])

    def norm(i: int) -> float:
        def times(v: Any) -> Any:
            return np.asarray(product(i, jnp.asarray(v.reshape(-1), flat.dtype)))

        if not times(start).any():
            return 0.0
        operator = LinearOperator((len(flat), len(flat)), matvec=times, dtype=start.dtype)
        return abs(float(eigsh(operator, 1, which="LM", v0=start, return_eigenvectors=False)[0]))

    out = jax.eval_shape(apply, params, points)
    norms: Array = jnp.asarray([norm(i) for i in range(out.size)], flat.dtype)
    return norms.reshape(tuple(out.shape))


def _problem(
    apply: Apply, params: Any, cost: Callable[[Array], Array], x: ArrayLike
) -> tuple[Any, Array, Cost]:
    params, points = network(apply, params), _check.floats("x", x)
    _check.same_dtype(x=points, params=jax.tree.leaves(params)[0])
    return params, points, cost if isinstance(cost, Cost) else Cost(cost)


def _slope(apply: Apply, cost: Cost, x: Array, params: Any) -> Any:
    return jax.grad(lambda p: cost(apply(p, x)))(params)


@functools.partial(jax.jit, static_argnums=0)
def _descend(
    apply: Apply, cost: Cost, x: Array, params: Any, rate: ArrayLike, steps: int
) -> tuple[Any, Array]:
    """At most BLOCK steps: the parameters, and the costs after each of them."""

    def step(i: Array, state: tuple[Any, Array]) -> tuple[Any, Array]:
        params, costs = state
        slope = _slope(apply, cost, x, params)
        params = jax.tree.map(lambda p, s: p - rate * s, params, slope)
        return params, costs.at[i].set(cost(apply(params, x)))

    end: tuple[Any, Array] = jax.lax.fori_loop(0, steps, step, (params, jnp.zeros(BLOCK, x.dtype)))
    return end


@functools.partial(jax.jit, static_argnums=0)
def _flow(apply: Apply, cost: Cost, x: Array, params: Any, times: Array, tolerance: float) -> Any:
    def velocity(t: Any, params: Any, _: Any) -> Any:
        return jax.tree.map(jnp.negative, _slope(apply, cost, x, params))

    return diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),
        diffrax.Tsit5(),
        jnp.zeros_like(times[0]),
        times[-1],
        None,
        params,
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        saveat=diffrax.SaveAt(ts=times),
        max_steps=None,
    ).ys
