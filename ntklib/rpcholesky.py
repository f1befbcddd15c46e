"""Randomly pivoted Cholesky: a low-rank part of a Gram matrix, and the preconditioner made of it.

K ≈ F Fᵀ from some columns of K alone. A column is drawn with probability proportional to what the
columns before it have left unexplained of the diagonal. The rest K − F Fᵀ is positive
semidefinite, so that with a ridge λ > 0

    F Fᵀ + λ I ⪯ K + λ I ⪯ (1 + tr(K − F Fᵀ)/λ) (F Fᵀ + λ I),

which bounds the condition number of the preconditioned matrix by 1 + tr(K − F Fᵀ)/λ
(:prf:ref:`prop-preconditioner`). How small the trace becomes says :prf:ref:`thm-rpcholesky`.
"""

from collections.abc import Callable
from itertools import count
from typing import NamedTuple

import numpy as np
import scipy.linalg

from ntklib import _work
from ntklib._tiles import Numbers
from ntklib.operators import Operator

__all__ = ["LowRank", "factor", "preconditioner"]


class LowRank(NamedTuple):
    """The low-rank part F Fᵀ of a matrix.

    Attributes:
        columns: F, shape (n, r), float64.
        pivots: the columns of K that were used, shape (r,).
        rest: tr(K − F Fᵀ).
    """

    columns: Numbers
    pivots: Numbers
    rest: float


def factor(
    operator: Operator,
    rank: int,
    rng: np.random.Generator,
    *,
    enough: float = 0.0,
    size: int = 128,
    progress: bool = False,
) -> LowRank:
    """F from at most `rank` columns, from fewer if tr(K − F Fᵀ) falls to `enough`.

    Columns are proposed in blocks, and each is accepted with the probability that the ones
    accepted before it leave it: the law is that of drawing one after the other, the work is in
    products of matrices.

    Raises:
        numpy.linalg.LinAlgError: what is left of a diagonal entry is negative past rounding.
    """
    diagonal = operator.diagonal().astype(float)
    rounding = 1e3 * float(np.finfo(operator.dtype).eps) * float(np.abs(diagonal).max())
    _refuse_negative(diagonal, rounding)
    found, pivots = np.empty((operator.n, rank)), np.empty(0, int)
    for _ in _work.progress(count(), "pivots", shown=progress):
        left = np.where(diagonal > rounding, diagonal, 0.0)
        if len(pivots) == rank or left.sum() <= enough or not left.any():
            break
        drawn = rng.choice(operator.n, size, p=left / left.sum())
        old = found[:, : len(pivots)]
        new = operator.columns(drawn).astype(float) - old @ old[drawn].T
        accepted = _accept(new[drawn], diagonal[drawn], rng, rounding)[: rank - len(pivots)]
        drawn, new = drawn[accepted], new[:, accepted]
        core = scipy.linalg.cholesky(new[drawn], lower=True)
        new = scipy.linalg.solve_triangular(core, new.T, lower=True).T
        found[:, len(pivots) : len(pivots) + len(drawn)] = new
        pivots = np.append(pivots, drawn)
        diagonal -= (new**2).sum(1)
        _refuse_negative(diagonal, rounding)
    rest = float(np.maximum(diagonal, 0.0).sum())
    return LowRank(found[:, : len(pivots)], pivots, rest)


def preconditioner(low: LowRank, ridge: float) -> Callable[[Numbers], Numbers]:
    """v ↦ (F Fᵀ + ridge I)⁻¹ v, by Woodbury's formula: a factor of r rows instead of n."""
    f = low.columns
    core = f.T @ f
    core[np.diag_indices(len(core))] += ridge
    inner = scipy.linalg.cho_factor(core, lower=True, overwrite_a=True)

    def apply(v: Numbers) -> Numbers:
        solved: Numbers = (v - f @ scipy.linalg.cho_solve(inner, f.T @ v)) / ridge
        return solved

    return apply


def _accept(
    core: Numbers, proposed: Numbers, rng: np.random.Generator, rounding: float
) -> list[int]:
    """Which of the proposals stand, where `core` is their block of what is unexplained."""
    core, accepted = core.copy(), []
    for i in range(len(core)):
        pivot = core[i, i]
        if pivot > max(rounding, rng.random() * proposed[i]):
            accepted.append(i)
            row = core[i].copy()
            core -= np.outer(row, row / pivot)
    return accepted


def _refuse_negative(diagonal: Numbers, rounding: float) -> None:
    if diagonal.min() < -rounding:
        raise np.linalg.LinAlgError(
            f"kernel: a pivot of k(x, x) is {diagonal.min():.1e} < 0, so it is not positive "
            "semidefinite: a function that is no kernel, or entries that are wrong"
        )
