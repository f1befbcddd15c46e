"""Ridge regression with inducing points, by Falkon's equations.

Among the functions f = Σⱼ k(·, zⱼ) βⱼ of p inducing points, Σᵢ |f(xᵢ) − yᵢ|² + λ ‖f‖² is least for

    (K_npᵀ K_np + λ K_pp) β = K_npᵀ y,     K_np = k(X, Z), K_pp = k(Z, Z).

This is :eq:`eq-falkon`. Were the examples like the inducing points, K_npᵀ K_np would be
(n/p) K_pp². With K_pp = Tᵀ T and
AᵀA = (n/p) T Tᵀ + λ I the matrix would then be (A T)ᵀ (A T): in the unknown γ = A T β it is near
the identity, and conjugate gradients need few products. Each takes one pass over the rows of
K_np, computed tile by tile and kept nowhere. See :prf:ref:`prop-falkon`, and
:prf:ref:`prop-inducing` for what fewer points cost.
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg

from ntklib import _work
from ntklib._tiles import Evaluator, Numbers, Tile, cores, cut, spread
from ntklib.conjugate_gradients import conjugate_gradients

__all__ = ["Falkon", "falkon"]


class Falkon(NamedTuple):
    """The coefficients and how they were reached.

    Attributes:
        coefficients: β, shape (p, m), float64.
        residuals: of the preconditioned equations, relative, by iteration.
        converged: whether the last is at most the tolerance.
        jitter: what was added to the diagonal of K_pp, for its factor alone.
    """

    coefficients: Numbers
    residuals: Numbers
    converged: bool
    jitter: float


def falkon(
    evaluate: Evaluator,
    x: Numbers,
    y: Numbers,
    centres: Numbers,
    ridge: float,
    *,
    tile: int,
    tolerance: float,
    iterations: int,
    checkpoint: "_work.Checkpoint | None" = None,
    save_every: int = 1,
    progress: bool = False,
) -> Falkon:
    """β for examples x, shape (n, d), y, shape (n, m), and inducing points, shape (p, d).

    Raises:
        numpy.linalg.LinAlgError: k(Z, Z) is not positive semidefinite.
    """
    n, p = len(x), len(centres)
    columns = cut(centres, tile)
    rows = _work.tiles(n, tile)
    core = np.concatenate(
        [np.concatenate([evaluate(a, b) for b in columns], 1) for a in columns]
    ).astype(float)
    core = (core + core.T) / 2
    jitter = 10 * float(np.finfo(x.dtype).eps) * np.sqrt(p) * float(np.trace(core)) / p
    core[np.diag_indices(p)] += jitter
    try:
        t = scipy.linalg.cholesky(core, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        raise np.linalg.LinAlgError(
            f"kernel: k(z, z) of the inducing points + {jitter:.1e} I is not positive definite: "
            "a function that is no kernel, or entries that are wrong"
        ) from None
    inner = (n / p) * (t @ t.T)
    inner[np.diag_indices(p)] += ridge
    a = scipy.linalg.cholesky(inner, overwrite_a=True, check_finite=False)

    def back(gamma: Numbers) -> Numbers:
        """T⁻¹ A⁻¹ γ."""
        found: Numbers = _triangular(t, _triangular(a, gamma))
        return found

    def forth(v: Numbers) -> Numbers:
        """A⁻ᵀ T⁻ᵀ v."""
        found: Numbers = _triangular(a, _triangular(t, v, 1), 1)
        return found

    def normal(beta: Numbers | None) -> Numbers:
        """K_npᵀ K_np β in one pass, and K_npᵀ y for no β."""

        def work(part: slice) -> Numbers:
            row: Tile = cut(x, tile, part)[0]
            values = [evaluate(row, column) for column in columns]
            if beta is None:
                image = y[part]
            else:
                narrow = beta.astype(x.dtype)
                image = sum(
                    (v @ narrow[c.rows] for v, c in zip(values, columns, strict=True)),
                    np.zeros((), x.dtype),
                )
            return np.concatenate([v.T @ image for v in values]).astype(float)

        total = np.zeros((p, y.shape[1]))
        steps = _work.progress(rows, "rows", shown=False)
        for term in spread(work, steps, cores()):
            total += term
        return total

    def product(gamma: Numbers) -> Numbers:
        beta = back(gamma)
        return forth(normal(beta)) + ridge * _triangular(a, _triangular(a, gamma), 1)

    outcome = conjugate_gradients(
        product,
        lambda v: v,
        forth(normal(None)),
        tolerance=tolerance,
        iterations=iterations,
        checkpoint=checkpoint,
        save_every=save_every,
        progress=progress,
        label="falkon",
    )
    return Falkon(back(outcome.solution), outcome.residuals, outcome.converged, jitter)


def _triangular(r: Numbers, v: Numbers, transposed: int = 0) -> Numbers:
    """R⁻¹ v or R⁻ᵀ v for upper triangular R."""
    solved: Numbers = scipy.linalg.solve_triangular(r, v, trans=transposed, check_finite=False)
    return solved
