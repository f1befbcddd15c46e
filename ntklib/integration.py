"""Kernel gradient flows without a closed form: any cost, with or without momentum, by diffrax."""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from ntklib import _check, _work
from ntklib.costs import Cost
from ntklib.filters import flat_gram
from ntklib.kernels import Kernel, KernelFunction, as_kernel
from ntklib.rkhs import Element

__all__ = ["Path", "integrate"]

STEPS = 2**16
"""Most steps of the integrator between two times."""


class Path(NamedTuple):
    """What `integrate` returns: f_t at T times.

    Attributes:
        kernel: the kernel.
        centres: the data, shape (N, d).
        coefficients: of f_t − f_0, shape (T, N) or (T, N, m).
        values: f_t(X), shape (T, N) or (T, N, m).
        costs: C(f_t), shape (T,).
    """

    kernel: Kernel
    centres: Array
    coefficients: Array
    values: Array
    costs: Array

    def change(self, i: int) -> Element:
        """f_t − f_0 at the i-th time, a function of H_K."""
        return Element(self.kernel, self.centres, self.coefficients[i])


def integrate(
    kernel: KernelFunction,
    cost: Cost,
    x: ArrayLike,
    start: ArrayLike | Callable[[Array], Array],
    times: ArrayLike,
    *,
    friction: float | None = None,
    tolerance: float | None = None,
    solver: diffrax.AbstractSolver[Any] | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Path:
    """Kernel gradient flow of any cost, ∂_t f = −∇_K C|_f, or heavy-ball motion, by diffrax.

    With f_t − f_0 = k(·, X) α it is α̇ = −d/N, d the cost's derivative; with a friction γ it is
    α̈ = −γ α̇ − d/N, from rest. Gradient descent with rate η takes steps of time η along the
    first; with momentum μ, steps of time √η along the second, where γ = (1 − μ)/√η.

    Args:
        kernel: any kernel ``k(x1, x2=None)``, scalar (then k ⊗ I) or matrix-valued.
        cost: a `Cost` of the values at the points.
        x: points, shape (N, d).
        start: f_0, a function of points, or its values f_0(X), shape (N,) or (N, m).
        times: increasing, the first ≥ 0, shape (T,), the dtype of x.
        friction: γ ≥ 0 of the heavy ball; ``None`` for the flow.
        tolerance: relative and absolute error of a step; ``None`` means 10⁻⁸ in float64 and
            10⁻⁶ in float32.
        solver: any of diffrax; ``None`` means ``Tsit5()``. Where the eigenvalues of K/N times
            the last time exceed some thousands, ``Kvaerno5()`` is faster.
        progress: whether to show a bar on stderr.
        checkpoint: a file in which the state is kept after each time.

    Returns:
        The path: f_t − f_0 as coefficients, the values and the costs at the times.

    Raises:
        TypeError, ValueError: wrong dtype or shape, NaN or infinite entries, numbers out of
            range; a checkpoint that is damaged or of another computation.
        FloatingPointError: the integrator gave up.
    """
    points = _check.points("x", x)
    f_0 = _check.floats("start", start(points) if callable(start) else start)
    when = _check.floats("times", times)
    _check.same_dtype(x=points, start=f_0, times=when)
    _check.columns("start", f_0, len(points))
    if when.ndim != 1 or when.size == 0 or when[0] < 0 or (jnp.diff(when) <= 0).any():
        raise ValueError("times: expected increasing numbers ≥ 0, shape (T,)")
    gamma = None if friction is None else _check.number("friction", friction, at_least=0)
    default = 1e-8 if points.dtype == np.float64 else 1e-6
    error: Any = default if tolerance is None else _check.number("tolerance", tolerance, above=0)
    k = as_kernel(kernel)
    gram = flat_gram(k, points, "start", f_0)
    _check.symmetric("kernel(x)", gram)

    done: dict[str, Any] = {"alphas": np.zeros((0, *f_0.shape), f_0.dtype)}
    done["velocity"] = np.zeros(f_0.shape, f_0.dtype)
    file = None
    if checkpoint is not None:
        parts = (gram, f_0, when, gamma, error, str(solver), cost.derivative(f_0), cost(f_0))
        file = _work.Checkpoint(checkpoint, _work.fingerprint("integrate", *parts))
        done = file.load() or done
    alphas = list(done["alphas"])
    state = (jnp.asarray([*[np.zeros_like(f_0)], *alphas][-1]), jnp.asarray(done["velocity"]))
    before = len(alphas)
    edges = np.concatenate([np.zeros(1, when.dtype), np.asarray(when)])
    steps = _work.progress(
        range(before, len(when)), "integrate", shown=progress, total=len(when), start=before
    )
    for i in steps:
        state, finished = _advance(
            gram, cost, f_0, state, edges[i], edges[i + 1], gamma, error, solver=solver
        )
        if not finished:
            raise FloatingPointError(
                f"times: no more than {STEPS} steps did not lead from {edges[i]:g} to "
                f"{edges[i + 1]:g}; try solver=diffrax.Kvaerno5() or a larger tolerance"
            )
        alphas.append(np.asarray(state[0]))
        if file is not None:
            file.save(alphas=np.stack(alphas), velocity=np.asarray(state[1]))
    coefficients = jnp.asarray(np.stack(alphas))
    values = jax.vmap(functools.partial(_values, gram, f_0))(coefficients)
    return Path(k, points, coefficients, values, jax.vmap(cost)(values))


def _values(gram: Array, f_0: Array, alpha: Array) -> Array:
    return f_0 + (gram @ alpha.reshape(len(gram), -1)).reshape(f_0.shape)


@functools.partial(jax.jit, static_argnames="solver")
def _advance(
    gram: Array,
    cost: Cost,
    f_0: Array,
    state: tuple[Array, Array],
    begin: Array,
    end: Array,
    friction: ArrayLike | None,
    tolerance: float,
    *,
    solver: diffrax.AbstractSolver[Any] | None,
) -> tuple[tuple[Array, Array], Array]:
    """From one time to another: coefficients and their velocity, and whether it got there."""

    def change(t: Any, y: tuple[Array, Array], _: Any) -> tuple[Array, Array]:
        alpha, velocity = y
        force = -cost.derivative(_values(gram, f_0, alpha)) / len(f_0)
        if friction is None:
            return force, jnp.zeros_like(force)
        return velocity, force - friction * velocity

    found = diffrax.diffeqsolve(
        diffrax.ODETerm(change),
        solver or diffrax.Tsit5(),
        begin,
        end,
        None,
        state,
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        saveat=diffrax.SaveAt(t1=True),
        max_steps=STEPS,
        throw=False,
    )
    reached = found.result == diffrax.RESULTS.successful
    return jax.tree.map(lambda leaf: leaf[0], found.ys), reached
