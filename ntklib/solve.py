"""Kernel ridge regression at any size: one call that picks a method, and says why.

    f = solve(kernel, x, y, ridge=1e-3)
    f(x_new), f.why, f.residual, f.jitter
    path = solve(kernel, x, y, ridge=[1.0, 0.1, 0.01])      # one solution for each ridge

Cholesky's method while n³/3 operations are few; conjugate gradients, preconditioned by randomly
pivoted Cholesky, with the Gram matrix in memory, on disk, or computed again for each product;
inducing points beyond.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from ntklib import _check
from ntklib._tiles import Evaluator
from ntklib.gram import checked, default_tile
from ntklib.kernels import KernelFunction
from ntklib.methods import Problem, direct, inducing, iterative, operator_at
from ntklib.sharded import Sharded
from ntklib.solution import Solution

__all__ = ["Solution", "solve"]

METHODS = ("auto", "cholesky", "cg", "falkon")
DIRECT = 10_000
"""Rows up to which Cholesky's method is chosen: n³/3 operations take seconds."""
PRODUCTS = 50_000
"""Rows up to which a Gram matrix that does not fit is computed again for each product."""


def solve(
    kernel: KernelFunction,
    x: ArrayLike,
    y: ArrayLike,
    *,
    ridge: float | Sequence[float],
    method: str = "auto",
    jitter: float | None = None,
    tolerance: float | None = None,
    iterations: int = 500,
    rank: int | None = None,
    memory: float | None = None,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    mesh: Mesh | None = None,
) -> Any:
    """The minimiser of Σᵢ |f(xᵢ) − yᵢ|² + ridge ‖f‖², f = k(·, X) (K + ridge I)⁻¹ y.

    In floating point a Gram matrix is known up to about ε √n times the mean of its diagonal. A
    smaller ridge is raised to 4 times that: the difference is the `jitter` of the solution, 0 if
    the ridge is large enough.

    Args:
        kernel: any kernel ``k(x1, x2=None)``; a matrix-valued one for Cholesky's method alone.
        x: points, shape (n, d), float32 or float64.
        y: values, shape (n,) or (n, m), the dtype of x.
        ridge: a number ≥ 0 in the unit of the kernel, or several.
        method: "cholesky", "cg", "falkon" (its function is a combination of `rank` kernels at
            points drawn at random), or "auto".
        jitter: what to add to the diagonal beside the ridge, in multiples of its mean; ``None``
            for the rule above.
        tolerance: of the relative residual of iterations; by default 1e-4 in float32, 1e-8 in
            float64.
        iterations: at most so many for each ridge.
        rank: of the preconditioner, by default 10 √n; with Falkon's method the number of
            inducing points.
        memory: bytes that a Gram matrix may take; by default half of this machine's.
        out: a path for the Gram matrix on disk, see `gram`, if it takes more than that.
        seed: of the random choices.
        progress: show bars on stderr.
        checkpoint: a file from which interrupted conjugate gradients go on.
        mesh: devices that hold the rows of the Gram matrix, see `ntklib.sharded`; the method is
            then "cg".

    Returns:
        A `Solution`, or a list of them for several ridges.

    Raises:
        TypeError, ValueError: an argument of a wrong type, shape or range; a checkpoint that is
            damaged or of another computation.
        numpy.linalg.LinAlgError: K + (ridge + jitter) I is not positive definite. The message
            has the smallest eigenvalue and the likely causes.
    """
    points, _ = checked(x, None)
    values = np.asarray(_check.floats("y", y))
    if values.dtype != points.dtype:
        raise TypeError(f"expected one dtype, got x {points.dtype}, y {values.dtype}")
    _check.columns("y", values, len(points))  # type: ignore[arg-type]
    ridges = [_at_least_zero("ridge", r) for r in np.ravel(ridge).tolist()]
    if not ridges:
        raise ValueError("ridge: expected at least one number")
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    if jitter is not None:
        jitter = _at_least_zero("jitter", jitter)
    n, single = len(points), points.dtype == np.float32
    evaluate = Evaluator(kernel, points, None)
    problem = Problem(
        kernel,
        points,
        values.reshape(n, -1),
        evaluate,
        jitter,
        (1e-4 if single else 1e-8) if tolerance is None else _positive("tolerance", tolerance),
        _check.integer("iterations", iterations, at_least=1),
        min(n, round(10 * n**0.5) if rank is None else _check.integer("rank", rank, at_least=1)),
        seed,
        default_tile(points.dtype, *evaluate.inner),
        progress,
        checkpoint,
    )
    budget = _half_of_memory() if memory is None else _positive("memory", memory)
    needed = points.dtype.itemsize * n**2 * int(np.prod(evaluate.inner, dtype=int))
    if mesh is not None and (method not in ("auto", "cg") or evaluate.inner):
        raise ValueError(f'method: over a mesh it is "cg", got {method!r}')
    method, why, place = _choose(
        "cg" if mesh else method, n, needed, budget, out is not None, evaluate.inner
    )
    # From large to small, so that each solution is a start for the next.
    order = sorted(set(ridges), reverse=True)
    if method == "cholesky":
        found = direct(problem, order, why)
    elif method == "falkon":
        found = [inducing(problem, r, why) for r in order]
    elif mesh is not None:
        found = iterative(problem, Sharded(kernel, points, mesh), order, why)
    else:
        found = iterative(problem, operator_at(problem, place, out), order, why)
    of = {f.ridge: f.with_outputs(values.shape[1:]) for f in found}
    return of[ridges[0]] if np.ndim(ridge) == 0 else [of[r] for r in ridges]


def _at_least_zero(name: str, value: float) -> float:
    number: Any = _check.number(name, value, at_least=0)
    return float(number)


def _positive(name: str, value: float) -> float:
    number: Any = _check.number(name, value, above=0)
    return float(number)


def _half_of_memory() -> float:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2
    return 4 * 2**30


def _choose(
    method: str, n: int, needed: float, budget: float, disk: bool, inner: tuple[int, ...]
) -> tuple[str, str, str]:
    """The method, the reason, and where the Gram matrix is."""
    size = f"n = {n}, Gram matrix {needed / 2**30:.3g} GiB of {budget / 2**30:.3g} GiB"
    fits = needed <= budget
    place = "memory" if fits else "disk" if disk else "again"
    where = {"memory": "in memory", "disk": "on disk", "again": "computed again each time"}[place]
    if inner and method not in ("auto", "cholesky"):
        raise ValueError(f'method: a matrix-valued kernel takes "cholesky", got {method!r}')
    if method != "auto":
        return method, f"asked for; {size}", place
    if inner or (fits and n <= DIRECT):
        return "cholesky", f"{size}: fits, and n³/3 operations are few", place
    if place != "again" or n <= PRODUCTS:
        return "cg", f"{size}: {where}, too many rows for n³/3 operations", place
    return "falkon", f"{size}: too large to be stored, or computed for each product", place
