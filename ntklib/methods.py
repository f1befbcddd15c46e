"""The methods of `solve`: a factor of the Gram matrix, iterations with it, inducing points."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve, get_blas_funcs
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from ntklib import _work
from ntklib._tiles import Evaluator, Numbers, cut
from ntklib.conjugate_gradients import conjugate_gradients
from ntklib.falkon import falkon
from ntklib.gram import gram
from ntklib.kernels import KernelFunction
from ntklib.operators import InMemory, OnDisk, Operator, Recomputed
from ntklib.rpcholesky import factor, preconditioner
from ntklib.solution import Solution

__all__ = ["Problem", "direct", "inducing", "iterative", "operator_at"]

DENSE = 3000
"""Rows up to which a smallest eigenvalue is taken from all of them."""


@dataclass(frozen=True, eq=False)
class Problem:
    """The arguments of `solve`, checked; y has shape (n, m)."""

    kernel: KernelFunction
    x: Numbers
    y: Numbers
    evaluate: Evaluator
    jitter: float | None
    tolerance: float
    iterations: int
    rank: int
    seed: int
    tile: int
    progress: bool
    checkpoint: str | os.PathLike[str] | None


def operator_at(problem: Problem, place: str, out: str | os.PathLike[str] | None) -> Operator:
    """The Gram matrix in "memory", on "disk", or computed "again" for each product."""
    x, shown = problem.x, problem.progress
    if place == "memory":
        return InMemory(np.asarray(gram(problem.kernel, x, progress=shown)))
    if place == "disk":
        array: Any = gram(problem.kernel, x, out=out, progress=shown)
        return OnDisk(problem.evaluate, x, problem.tile, array)
    return Recomputed(problem.evaluate, x, problem.tile, 4 * problem.tile)


def direct(problem: Problem, ridges: list[float], why: str) -> list[Solution]:
    """Cholesky's method, one factor for each ridge."""
    matrix, y = np.asarray(gram(problem.kernel, problem.x, progress=problem.progress)), problem.y
    scalar = matrix.ndim == 2
    if not scalar:
        n, _, m, _ = matrix.shape
        if y.shape != (n, m):
            raise ValueError(f"y: expected shape ({n}, {m}) for this kernel, got {y.shape}")
        matrix, y = matrix.transpose(0, 2, 1, 3).reshape(n * m, n * m), y.reshape(n * m, 1)
    diagonal, own = matrix.diagonal().copy(), np.diag_indices_from(matrix)
    found = []
    for ridge in ridges:
        jitter = _jitter(problem, ridge, diagonal)
        matrix[own] = shifted = diagonal + np.asarray(ridge + jitter, matrix.dtype)
        try:
            # Into the lower triangle of the transposed view; the upper one stays K. For a single
            # ridge there is no copy.
            lower, _ = cho_factor(
                matrix.T, lower=True, overwrite_a=len(ridges) == 1, check_finite=False
            )
        except np.linalg.LinAlgError:
            upper = np.tril(matrix, -1).T
            raise _indefinite(
                InMemory(upper + upper.T + np.diag(diagonal)), ridge, jitter
            ) from None
        alpha = cho_solve((lower, True), y, check_finite=False)
        (symm,) = get_blas_funcs(("symm",), (lower, alpha))
        times = (shifted - lower.diagonal())[:, None] * alpha
        residual = _relative(y - (symm(1.0, lower, alpha, lower=0) + times), y)
        kept = lower if scalar and len(ridges) == 1 else None
        found.append(
            Solution(
                kernel=problem.kernel,
                centres=problem.x,
                coefficients=alpha.reshape(problem.y.shape),
                ridge=ridge,
                jitter=jitter,
                method="cholesky",
                why=why,
                residual=residual,
                iterations=0,
                residuals=np.array([residual]),
                converged=residual <= problem.tolerance,
                _factor=kept,
            )
        )
    return found


def iterative(
    problem: Problem, operator: Operator, ridges: list[float], why: str
) -> list[Solution]:
    """Conjugate gradients, each ridge from the solution for the one before."""
    diagonal = operator.diagonal()
    shifts = [r + _jitter(problem, r, diagonal) for r in ridges]
    if min(shifts) == 0:
        raise ValueError("ridge: conjugate gradients need ridge + jitter > 0, got 0")
    low = factor(
        operator,
        problem.rank,
        np.random.default_rng(problem.seed),
        enough=min(shifts),
        progress=problem.progress,
    )
    y = problem.y.astype(float)
    alpha, found = np.zeros_like(y), []
    for ridge, shift in zip(ridges, shifts, strict=True):

        def product(v: Numbers, shift: float = shift) -> Numbers:
            return operator @ v + shift * v

        try:
            outcome = conjugate_gradients(
                product,
                preconditioner(low, shift),
                y,
                start=alpha,
                tolerance=problem.tolerance,
                iterations=problem.iterations,
                checkpoint=_checkpoint(problem, "cg", ridge),
                progress=problem.progress,
            )
        except np.linalg.LinAlgError:
            raise _indefinite(operator, ridge, shift - ridge) from None
        alpha = outcome.solution
        rounded = alpha.astype(operator.dtype)
        residual = _relative(y - product(rounded.astype(float)), y)
        found.append(
            Solution(
                kernel=problem.kernel,
                centres=problem.x,
                coefficients=rounded,
                ridge=ridge,
                jitter=shift - ridge,
                method="cg",
                why=f"{why}; matrix {operator.told}; preconditioner of rank {len(low.pivots)}, "
                f"condition number at most {1 + low.rest / shift:.3g}",
                residual=residual,
                iterations=len(outcome.residuals) - 1,
                residuals=outcome.residuals,
                converged=residual <= 2 * problem.tolerance,
            )
        )
    return found


def inducing(problem: Problem, ridge: float, why: str) -> Solution:
    """Falkon's equations with inducing points drawn at random from the training points."""
    if ridge == 0:
        raise ValueError("ridge: Falkon's equations need a ridge > 0, got 0")
    rng = np.random.default_rng(problem.seed)
    centres = problem.x[np.sort(rng.choice(len(problem.x), problem.rank, replace=False))]
    outcome = falkon(
        problem.evaluate,
        problem.x,
        problem.y,
        centres,
        ridge,
        tile=problem.tile,
        tolerance=problem.tolerance,
        iterations=problem.iterations,
        checkpoint=_checkpoint(problem, "falkon", ridge),
        progress=problem.progress,
    )
    return Solution(
        kernel=problem.kernel,
        centres=centres,
        coefficients=outcome.coefficients.astype(problem.x.dtype),
        ridge=ridge,
        jitter=outcome.jitter,
        method="falkon",
        why=f"{why}; {problem.rank} inducing points",
        residual=float(outcome.residuals[-1]),
        iterations=len(outcome.residuals) - 1,
        residuals=outcome.residuals,
        converged=outcome.converged,
    )


def _jitter(problem: Problem, ridge: float, diagonal: Numbers) -> float:
    """What is added beside the ridge: as told in `solve`."""
    mean = float(diagonal.mean(dtype=float))
    if problem.jitter is not None:
        return problem.jitter * mean
    known = 4 * float(np.finfo(diagonal.dtype).eps) * np.sqrt(len(diagonal)) * mean
    return max(0.0, float(known) - ridge)


def _relative(rest: Numbers, y: Numbers) -> float:
    """The largest ‖rest‖/‖y‖ of the columns."""
    norms = np.linalg.norm(y, axis=0)
    return float((np.linalg.norm(rest, axis=0) / np.where(norms > 0, norms, 1)).max())


def _checkpoint(problem: Problem, method: str, ridge: float) -> "_work.Checkpoint | None":
    """One file for each ridge: a path ends where it was interrupted."""
    if problem.checkpoint is None:
        return None
    probe = problem.evaluate(cut(problem.x, problem.tile)[0])[:4, :4]
    settings = (method, ridge, problem.jitter, problem.rank, problem.seed, problem.tile)
    identity = _work.fingerprint(problem.x, problem.y, probe, settings)
    path = Path(problem.checkpoint)
    return _work.Checkpoint(path.with_name(f"{path.name}.{ridge:g}"), identity)


def _indefinite(operator: Operator, ridge: float, jitter: float) -> np.linalg.LinAlgError:
    n = operator.n
    if isinstance(operator, InMemory) and n <= DENSE:
        smallest = float(np.linalg.eigvalsh(operator.matrix.astype(float))[0])
    else:
        view = LinearOperator((n, n), lambda v: operator @ v.reshape(n, -1), dtype=float)
        try:
            smallest = float(eigsh(view, 1, which="SA", tol=1e-2, return_eigenvectors=False)[0])
        except ArpackNoConvergence:
            smallest = np.nan
    mean = float(operator.diagonal().mean(dtype=float))
    told = "not found" if np.isnan(smallest) else f"{smallest:.1e}"
    return np.linalg.LinAlgError(
        f"kernel: k(x, x) + {ridge + jitter:.1e} I (ridge {ridge:.1e}, jitter {jitter:.1e}) is not "
        f"positive definite in {operator.dtype}: smallest eigenvalue of k(x, x) {told} beside a "
        f"mean of {mean:.1e}. Likely causes: a function that is no kernel, or one that loses more "
        "digits than its dtype has; equal points with too small a ridge"
    )
