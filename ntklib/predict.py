"""What a trained network predicts while its tangent kernel stays: flows, and laws of ensembles.

The mean-square flow in closed form is `ntklib.filters.flow`; `integrate` follows those
that have none. Here is the normal law that training makes of a random start.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from ntklib import _check
from ntklib.filters import Filter, filtered
from ntklib.integration import Path, integrate
from ntklib.kernels import Kernel, KernelFunction, as_kernel, pytree
from ntklib.rkhs import Element, interpolate, ridge

__all__ = ["Law", "Path", "ensemble", "integrate", "posterior"]


@pytree
class Law:
    """A normal law of functions: f = f_0 + A (y + ε − f_0(X)), f_0 and ε normal, mean 0.

    f_0 has the covariance Σ, the noise ε at the data has the variance `noise`, and A maps
    residuals at the data to functions. From `ensemble` and `posterior`.
    """

    prior: Kernel
    learner: Element
    y: Array
    noise: ArrayLike

    def mean(self, x: ArrayLike) -> Array:
        """E f(x) = A y at points of shape (n, d): shape (n,) or (n, m)."""
        return self.learner(x) @ self.y

    def covariance(self, x1: ArrayLike, x2: ArrayLike | None = None) -> Array:
        """Cov f(x1), f(x2), the same for each output: shape (n1, n2).

        Σ(x1, x2) − A Σ(X, x2) − Σ(x1, X) Aᵀ + A (Σ(X, X) + noise · I) Aᵀ,
        :eq:`eq-ensemble-covariance`.
        """
        second = x1 if x2 is None else x2
        a1, a2, centres = self.learner(x1), self.learner(second), self.learner.centres
        noisy = self.prior(centres) + self.noise * jnp.eye(len(centres), dtype=a1.dtype)
        half = a1 @ (noisy @ a2.T / 2 - self.prior(centres, second))
        other = a2 @ (noisy @ a1.T / 2 - self.prior(centres, x1))
        # In this order the sum is symmetric to the last bit.
        return self.prior(x1, x2) + (half + other.T)


def ensemble(
    nngp: KernelFunction,
    ntk: KernelFunction,
    x: ArrayLike,
    y: ArrayLike,
    filter: Filter | None = None,
) -> Law:
    """The law of infinitely wide networks, started at random and trained on one data set.

    f_0 ~ N(0, Σ), then f = f_0 + A (y − f_0(X)) with A = (1/N) Θ(·, X) g(Θ/N);
    :prf:ref:`thm-ensemble`. It is not a Bayesian posterior unless Θ = Σ.

    Args:
        nngp: Σ, the covariance of the outputs at the start, a scalar kernel.
        ntk: Θ, the kernel in training, a scalar kernel.
        x: points, shape (N, d).
        y: values, shape (N,) or (N, m), the dtype of x.
        filter: g, how far the training goes: ``gradient_flow(t)``, ``ridge_filter(rho)``,
            …; ``None`` trains to the end, Θ(·, X) Θ(X, X)⁻¹.

    Returns:
        The law, with ``mean(x)`` and ``covariance(x1, x2=None)``.

    Raises:
        TypeError, ValueError: wrong dtype or shape, NaN or infinite entries, a Gram matrix
            that is not symmetric.
        numpy.linalg.LinAlgError: Θ(X, X) is singular and the training goes to the end, or has
            a negative eigenvalue.
    """
    points, values = _data(x, y)
    each = jnp.eye(len(points), dtype=points.dtype)
    kernel = _scalar("ntk", ntk, points)
    prior = _scalar("nngp", nngp, points)
    if filter is None:
        return Law(prior, interpolate(kernel, points, each), values, 0.0)
    return Law(prior, filtered(kernel, points, each, filter), values, 0.0)


def posterior(kernel: KernelFunction, x: ArrayLike, y: ArrayLike, noise: ArrayLike) -> Law:
    """The Gaussian process with this covariance, given noisy values at the data.

    Mean k(·, X) (K + noise · I)⁻¹ y, covariance k − k(·, X) (K + noise · I)⁻¹ k(X, ·).

    Args:
        kernel: the covariance k, a scalar kernel.
        x: points, shape (N, d).
        y: values, shape (N,) or (N, m), the dtype of x.
        noise: the variance of the noise, a number > 0.

    Returns:
        The law, with ``mean(x)`` and ``covariance(x1, x2=None)``.

    Raises:
        TypeError, ValueError: wrong dtype or shape, NaN or infinite entries, noise ≤ 0.
        numpy.linalg.LinAlgError: K + noise · I is not positive definite.
    """
    points, values = _data(x, y)
    variance = _check.number("noise", noise, above=0)
    each = jnp.eye(len(points), dtype=points.dtype)
    prior = _scalar("kernel", kernel, points)
    return Law(prior, ridge(prior, points, each, variance), values, variance)


def _data(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    points, values = _check.points("x", x), _check.floats("y", y)
    _check.same_dtype(x=points, y=values)
    _check.columns("y", values, len(points))
    return points, values


def _scalar(name: str, kernel: KernelFunction, x: Array) -> Kernel:
    k = as_kernel(kernel)
    _check.shape(f"{name}(x)", k(x[:1]), (1, 1))
    return k
