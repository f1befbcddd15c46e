"""Spectral filters: regression by damping what the kernel sees badly.

Let λ run over the eigenvalues of K/N, K = k(X, X). A filter g is a function of λ, and makes
from residuals r the function f = (1/N) k(·, X) g(K/N) r. On the data the component of r along
an eigenvector is multiplied by the response λ g(λ): 1 lets it pass, 0 blocks it. Gradient
flow, gradient descent and ridge regression are three such filters, :prf:ref:`prop-filters`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from ntklib import _check
from ntklib.kernels import KernelFunction, as_kernel
from ntklib.rkhs import Element

__all__ = ["Filter", "filtered", "flow", "gradient_descent", "gradient_flow", "ridge_filter"]

Filter = Callable[[Array], Array]
"""λ ↦ g(λ) for eigenvalues λ ≥ 0 of K/N, elementwise, finite at λ = 0."""


def gradient_flow(time: ArrayLike) -> Filter:
    """g(λ) = (1 − e^{−tλ})/λ, with the limit t at λ = 0: gradient flow stopped at t.

    Args:
        time: t, a number ≥ 0.
    """
    t = _check.number("time", time, at_least=0)

    def g(lam: Array) -> Array:
        at_zero = lam == 0
        return jnp.where(at_zero, t, -jnp.expm1(jnp.multiply(t, -lam)) / jnp.where(at_zero, 1, lam))

    return g


def gradient_descent(rate: ArrayLike, steps: int) -> Filter:
    """g(λ) = (1 − (1 − ηλ)^s)/λ, with the limit ηs at λ = 0: s steps of descent.

    Args:
        rate: η, a number > 0. Above 2/λ the component of λ grows with each step.
        steps: s, an integer ≥ 0.
    """
    eta = _check.number("rate", rate, above=0)
    s = _check.integer("steps", steps, at_least=0)

    def g(lam: Array) -> Array:
        # For small ηλ the difference 1 − (1 − ηλ)^s would lose its digits.
        small = jnp.minimum(eta * lam, 0.5)
        damped = jnp.where(
            eta * lam < 0.5, -jnp.expm1(s * jnp.log1p(-small)), 1 - (1 - eta * lam) ** s
        )
        at_zero = lam == 0
        return jnp.where(at_zero, eta * s, damped / jnp.where(at_zero, 1, lam))

    return g


def ridge_filter(rho: ArrayLike) -> Filter:
    """g(λ) = 1/(λ + ρ): ridge regression, `ntklib.rkhs.ridge` with penalty Nρ.

    Args:
        rho: ρ, a number > 0: the minimised cost is (1/2N) Σᵢ ‖f(xᵢ) − yᵢ‖² + (ρ/2) ‖f‖².
    """
    ridge = _check.number("rho", rho, above=0)
    return lambda lam: 1 / (lam + ridge)


def filtered(kernel: KernelFunction, x: ArrayLike, residual: ArrayLike, filter: Filter) -> Element:
    """The function (1/N) k(·, X) g(K/N) r, :eq:`eq-filtered`.

    Args:
        kernel: any kernel ``k(x1, x2=None)``, matrix-valued ones included.
        x: points, shape (N, d).
        residual: r = y − f_0(X), shape (N,) or (N, m), the dtype of x.
        filter: g, for example ``gradient_flow(10.0)`` or ``ridge_filter(0.1)``.

    Returns:
        The function, to be added to f_0.

    Raises:
        TypeError, ValueError: wrong dtype or shape, NaN or infinite entries, k(x, x) not
            symmetric.
        numpy.linalg.LinAlgError: k(x, x) has a negative eigenvalue. One that is negative by
            rounding alone counts as 0.
    """
    x, r = _check.points("x", x), _check.floats("residual", residual)
    _check.same_dtype(x=x, residual=r)
    _check.columns("residual", r, len(x))
    matrix = flat_gram(kernel, x, "residual", r)
    _check.symmetric("kernel(x)", matrix)
    lam, vectors = jnp.linalg.eigh(matrix / len(x))
    if not isinstance(lam, jax.core.Tracer):
        allowed = 100 * len(matrix) * float(np.finfo(lam.dtype).eps) * float(lam[-1])
        if lam[0] < -allowed:
            raise np.linalg.LinAlgError(
                f"kernel: k(x, x) has the eigenvalue {float(lam[0]) * len(x):.1e}, "
                "so it is no kernel"
            )
    columns = r.reshape(len(matrix), -1)
    damped = filter(jnp.maximum(lam, 0))[:, None] * (vectors.T @ columns)
    return Element(kernel, x, (vectors @ damped / len(x)).reshape(r.shape))


def flow(kernel: KernelFunction, x: ArrayLike, residual: ArrayLike, time: ArrayLike) -> Element:
    """Kernel gradient flow of the mean-square cost, in closed form, :eq:`eq-flow`.

    f_t − f_0 = k(·, X) K⁻¹ (I − e^{−tK/N}) (y − f_0(X)), by :prf:ref:`thm-flow`; a zero
    eigenvalue of K contributes its limit, so K may be singular.

    Args:
        kernel: any kernel ``k(x1, x2=None)``, matrix-valued ones included.
        x: points, shape (N, d).
        residual: y − f_0(X), shape (N,) or (N, m), the dtype of x.
        time: t, a finite number ≥ 0; the limit of infinite time is `ntklib.rkhs.interpolate`.

    Returns:
        f_t − f_0, to be added to f_0.

    Raises:
        TypeError, ValueError, numpy.linalg.LinAlgError: as `filtered`.
    """
    return filtered(kernel, x, residual, gradient_flow(time))


def flat_gram(
    kernel: KernelFunction, x: Array, name: str = "", values: Array | None = None
) -> Array:
    """k(X, X) as one matrix, (N, N), or (Nm, Nm) for a matrix-valued kernel.

    Raises:
        ValueError: it does not act on these values, the argument of that name.
    """
    gram = as_kernel(kernel)(x)
    if gram.ndim == 2:
        return gram
    n, _, m, _ = gram.shape
    if values is not None:
        _check.shape(name, values, (n, m))
    return gram.transpose(0, 2, 1, 3).reshape(n * m, n * m)
