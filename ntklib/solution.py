"""What `solve` returns: the function it found, and the account of how."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.linalg
from jax.typing import ArrayLike

from ntklib import _check
from ntklib._tiles import Evaluator, Numbers, cut
from ntklib.gram import default_tile
from ntklib.kernels import KernelFunction
from ntklib.operators import apply

__all__ = ["Solution"]


@dataclass(frozen=True, eq=False)
class Solution:
    """The function f = Σⱼ k(·, zⱼ) αⱼ, and how it was found.

    Attributes:
        kernel: the kernel.
        centres: the points zⱼ, shape (p, d): the training points or the inducing ones.
        coefficients: the αⱼ, shape (p,) or (p, m), in the dtype of the points.
        ridge: λ as it was asked for.
        jitter: what was added to the diagonal beside it, see `solve`.
        method: "cholesky", "cg" or "falkon".
        why: the reason for the method, in words.
        residual: ‖y − (K + (λ + jitter) I) α‖/‖y‖ as computed from α, the largest of the outputs;
            with Falkon's method that of its preconditioned equations, from the recursion.
        iterations: how many there were; 0 for Cholesky's method.
        residuals: after each iteration, from the recursion.
        converged: whether the residual is at most the tolerance.
    """

    kernel: KernelFunction
    centres: Numbers
    coefficients: Numbers
    ridge: float
    jitter: float
    method: str
    why: str
    residual: float
    iterations: int
    residuals: Numbers
    converged: bool
    _factor: Any = field(default=None, repr=False)

    def __call__(self, x: ArrayLike, *, progress: bool = False) -> Numbers:
        """f at points of shape (n, d): shape (n,) or (n, m), computed tile by tile.

        Raises:
            TypeError, ValueError: wrong dtype or shape, NaN or infinite entries.
        """
        points = self._points(x)
        evaluate = Evaluator(self.kernel, points, self.centres)
        columns = self.coefficients.reshape(len(self.centres), -1)
        tile = default_tile(points.dtype, *evaluate.inner)
        values = apply(evaluate, points, self.centres, columns, tile, progress=progress)
        return values.reshape(len(points), *self.coefficients.shape[1:])

    def variance(self, x: ArrayLike) -> Numbers:
        """k(x, x) − k(x, X) (K + (λ + jitter) I)⁻¹ k(X, x) at points of shape (n, d): shape (n,).

        It is the posterior variance of a Gaussian process with covariance k and noise λ.

        Raises:
            TypeError, ValueError: as for predictions; a method that has no factor of the matrix.
        """
        if self._factor is None:
            raise ValueError(
                "variance: expected a solution by Cholesky's method of a scalar kernel, "
                f'solve(..., method="cholesky"), got one by {self.method!r}'
            )
        points = self._points(x)
        evaluate = Evaluator(self.kernel, points, self.centres)
        tile = default_tile(points.dtype)
        cross = apply(evaluate, points, self.centres, None, tile)
        prior = np.concatenate([evaluate(part).diagonal() for part in cut(points, tile)])
        whitened = scipy.linalg.solve_triangular(self._factor, cross.T, lower=True)
        variance: Numbers = prior - (whitened**2).sum(0)
        return variance

    def with_outputs(self, shape: tuple[int, ...]) -> "Solution":
        """The same with coefficients of shape ``(p, *shape)``."""
        return replace(self, coefficients=self.coefficients.reshape(len(self.centres), *shape))

    def _points(self, x: ArrayLike) -> Numbers:
        points = np.asarray(_check.points("x", x, self.centres.shape[1]))
        if points.dtype != self.centres.dtype:
            raise TypeError(f"x: expected {self.centres.dtype}, got {points.dtype}")
        return points
