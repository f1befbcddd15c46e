"""Conjugate gradients with a preconditioner, for several right-hand sides, told and resumable.

:eq:`eq-cg` is the iteration, :prf:ref:`thm-cg` bounds its error.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ntklib import _work
from ntklib._tiles import Numbers

__all__ = ["Outcome", "conjugate_gradients"]

Product = Callable[[Numbers], Numbers]


class Outcome(NamedTuple):
    """What conjugate gradients reached.

    Attributes:
        solution: shape (n, m).
        residuals: ‖b − A x‖/‖b‖ after 0, 1, 2, … iterations, the largest of the m; by the
            recursion, to which rounding makes the true one differ.
        converged: whether it is at most the tolerance.
    """

    solution: Numbers
    residuals: Numbers
    converged: bool


def conjugate_gradients(
    product: Product,
    precondition: Product,
    b: Numbers,
    *,
    start: Numbers | None = None,
    tolerance: float,
    iterations: int,
    checkpoint: "_work.Checkpoint | None" = None,
    save_every: int = 10,
    progress: bool = False,
    label: str = "conjugate gradients",
) -> Outcome:
    """The solution of A x = b for a symmetric positive definite A.

    Args:
        product: v ↦ A v for v of shape (n, m).
        precondition: v ↦ P⁻¹ v, P near A and positive definite too.
        b: shape (n, m): m systems, each with scalars of its own.
        start: where to begin, shape (n, m); by default at 0.
        tolerance: of ‖b − A x‖/‖b‖.
        iterations: at most so many.
        checkpoint: from which an interrupted call goes on.
        save_every: the number of iterations from one saving to the next.
        progress: show a bar on stderr.
        label: the words before it.

    Raises:
        numpy.linalg.LinAlgError: a direction p with pᵀ A p ≤ 0, so A is not positive definite.
    """
    norms = np.linalg.norm(b, axis=0)
    norms = np.where(norms > 0, norms, 1.0)
    state = checkpoint.load() if checkpoint else None
    if state is None:
        x = np.zeros_like(b) if start is None else start.copy()
        r = b - product(x) if x.any() else b.copy()
        z = precondition(r)
        residuals = np.array([np.max(np.linalg.norm(r, axis=0) / norms)])
        state = {"x": x, "r": r, "p": z, "rz": (r * z).sum(0), "residuals": residuals}
    x, r, p, rz, residuals = (state[name] for name in ("x", "r", "p", "rz", "residuals"))
    first = len(residuals) - 1
    steps = range(first, iterations)
    for step in _work.progress(steps, label, shown=progress, total=iterations, start=first):
        # A column that has converged rests: going on would divide rounding by rounding.
        active = np.linalg.norm(r, axis=0) > tolerance * norms
        if not active.any():
            break
        ap = product(p)
        curvature = (p * ap).sum(0)
        if (curvature[active] <= 0).any():
            worst = int(np.argmin(np.where(active, curvature, np.inf)))
            rayleigh = curvature[worst] / (p[:, worst] ** 2).sum()
            raise np.linalg.LinAlgError(
                f"matrix: not positive definite, pᵀAp/pᵀp = {rayleigh:.1e} for a direction p"
            )
        length = np.where(active, rz / np.where(active, curvature, 1.0), 0.0)
        x = x + length * p
        r = r - length * ap
        z = precondition(r)
        before, rz = rz, (r * z).sum(0)
        p = z + np.where(active, rz / np.where(before > 0, before, 1.0), 0.0) * p
        residuals = np.append(residuals, np.max(np.linalg.norm(r, axis=0) / norms))
        if checkpoint and (step + 1) % save_every == 0:
            checkpoint.save(x=x, r=r, p=p, rz=rz, residuals=residuals)
    if checkpoint:
        checkpoint.save(x=x, r=r, p=p, rz=rz, residuals=residuals)
    return Outcome(x, residuals, bool(residuals[-1] <= tolerance))
