"""The space of a kernel: its functions, regression in it, and its Mercer spectrum.

The kernels themselves live in `ntklib.kernels` and are offered here too, so that a chapter
needs one import. Everything takes any function ``k(x1, x2=None)`` as its kernel.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import cho_factor, cho_solve
from jax.typing import ArrayLike

from ntklib import _check
from ntklib.kernels import (
    FromFunction,
    Kernel,
    KernelFunction,
    Linear,
    Polynomial,
    Product,
    Scaled,
    Sum,
    as_kernel,
    pytree,
    set_fields,
)
from ntklib.matrix_kernels import Gradient, Tensor
from ntklib.stationary import RBF, Laplace, Matern

__all__ = [
    "RBF",
    "Element",
    "FromFunction",
    "Gradient",
    "Kernel",
    "Laplace",
    "Linear",
    "Matern",
    "Mercer",
    "Polynomial",
    "Product",
    "Scaled",
    "Sum",
    "Tensor",
    "interpolate",
    "mercer",
    "ridge",
]


@pytree
class Element:
    """A function f = Σᵢ k(·, xᵢ) αᵢ of the space H_k, :eq:`eq-element`.

    With a scalar kernel the coefficients may have m columns: f then has m outputs, each a
    function of H_k of its own (the kernel k ⊗ I).

    Args:
        kernel: any kernel ``k(x1, x2=None)``.
        centres: the points xᵢ, shape (n, d).
        coefficients: the αᵢ, shape (n,) or (n, m).

    Raises:
        TypeError, ValueError: wrong dtype or shape, NaN or infinite entries.
    """

    kernel: KernelFunction
    centres: Array
    coefficients: Array

    def __post_init__(self) -> None:
        centres = _check.points("centres", self.centres)
        coefficients = _check.floats("coefficients", self.coefficients)
        _check.same_dtype(centres=centres, coefficients=coefficients)
        _check.columns("coefficients", coefficients, len(centres))
        kernel = as_kernel(self.kernel)
        set_fields(self, kernel=kernel, centres=centres, coefficients=coefficients)

    def __call__(self, x: ArrayLike) -> Array:
        """f(x) = Σᵢ k(x, xᵢ) αᵢ at points of shape (n, d): shape (n,) or (n, m)."""
        return _times(self.kernel(x, self.centres), self.coefficients)

    def inner(self, other: "Element") -> Array:
        """⟨f, g⟩ = Σᵢⱼ αᵢᵀ k(xᵢ, zⱼ) βⱼ, :eq:`eq-inner`: a scalar.

        Raises:
            ValueError: the other function belongs to another kernel.
        """
        self._same_space(other)
        return jnp.vdot(self.coefficients, other(self.centres))

    def norm(self) -> Array:
        """‖f‖ = √⟨f, f⟩: a scalar.

        Raises:
            ValueError: ⟨f, f⟩ is negative past rounding, so the kernel is none.
        """
        square, size = (
            self.inner(self),
            jnp.vdot(jnp.abs(self.coefficients), jnp.abs(self(self.centres))),
        )
        if not isinstance(square, jax.core.Tracer) and square < -_rounding(self.centres) * size:
            raise ValueError(f"kernel: ⟨f, f⟩ = {float(square):.3g} < 0, so it is not a kernel")
        return jnp.sqrt(jnp.maximum(square, 0))

    def __add__(self, other: "Element") -> "Element":
        self._same_space(other)
        return Element(
            self.kernel,
            jnp.concatenate([self.centres, other.centres]),
            jnp.concatenate([self.coefficients, other.coefficients]),
        )

    def __mul__(self, scalar: ArrayLike) -> "Element":
        number = _check.number("scalar", scalar)
        return Element(self.kernel, self.centres, self.coefficients * number)

    __rmul__ = __mul__

    def __sub__(self, other: "Element") -> "Element":
        return self + (-1.0) * other

    def _same_space(self, other: "Element") -> None:
        if self.kernel != other.kernel:
            raise ValueError(f"other: expected a function of {self.kernel}, got {other.kernel}")
        _check.points("other.centres", other.centres, self.centres.shape[1])
        outputs = self.coefficients.shape[1:]
        _check.shape("other.coefficients", other.coefficients, (len(other.centres), *outputs))


def interpolate(kernel: KernelFunction, x: ArrayLike, y: ArrayLike) -> Element:
    """The function of least norm through the data, f = k(·, X) k(X, X)⁻¹ y.

    :eq:`eq-interpolant`, by :prf:ref:`thm-minimum-norm`.

    Args:
        kernel: any kernel ``k(x1, x2=None)``, positive definite on the points.
        x: points, shape (n, d).
        y: values, shape (n,) or (n, m), the dtype of x.

    Returns:
        The interpolant, with the points as its centres.

    Raises:
        TypeError, ValueError: wrong dtype or shape, NaN or infinite entries, k(x, x) not
            symmetric.
        numpy.linalg.LinAlgError: the Gram matrix is singular or indefinite in this
            precision, or too ill-conditioned for the values to be met.
    """
    f = _regress(kernel, x, y, 0.0)
    values = f(x)
    if not isinstance(values, jax.core.Tracer):
        wanted = np.asarray(y)
        missed = np.abs(np.asarray(values) - wanted).max()
        allowed = np.sqrt(np.finfo(wanted.dtype).eps) * np.abs(wanted).max()
        if missed > allowed:
            raise np.linalg.LinAlgError(
                f"kernel: k(x, x) is too ill-conditioned in {values.dtype}: the solution misses "
                f"the data by {missed:.1e}; add a ridge, use float64 or remove near-equal points"
            )
    return f


def ridge(kernel: KernelFunction, x: ArrayLike, y: ArrayLike, penalty: ArrayLike) -> Element:
    """The minimiser of Σᵢ ‖f(xᵢ) − yᵢ‖² + penalty · ‖f‖², :eq:`eq-ridge`.

    f = k(·, X) (k(X, X) + penalty · I)⁻¹ y, by :prf:ref:`thm-ridge`.

    Args:
        kernel: any kernel ``k(x1, x2=None)``.
        x: points, shape (n, d).
        y: values, shape (n,) or (n, m), the dtype of x.
        penalty: a number > 0, in the unit of the kernel.

    Returns:
        The minimiser, with the points as its centres.

    Raises:
        TypeError, ValueError: wrong dtype or shape, NaN or infinite entries, penalty ≤ 0,
            k(x, x) not symmetric.
        numpy.linalg.LinAlgError: k(x, x) + penalty · I is not positive definite.
    """
    return _regress(kernel, x, y, _check.number("penalty", penalty, above=0))


@pytree
class Mercer:
    """The leading Mercer eigenpairs of a kernel, from `mercer`.

    Attributes:
        eigenvalues: λ₁ ≥ λ₂ ≥ …, shape (r,).
    """

    kernel: Kernel
    nodes: Array
    eigenvalues: Array
    coefficients: Array

    def __call__(self, x: ArrayLike) -> Array:
        """The eigenfunctions φ₁ … φ_r at points of shape (n, d): shape (n, r)."""
        return self.kernel(x, self.nodes) @ self.coefficients


def mercer(
    kernel: KernelFunction, x: ArrayLike, rank: int, weights: ArrayLike | None = None
) -> Mercer:
    """The leading eigenpairs of the integral operator of k, by Nyström's method.

    The measure is replaced by weights w_j at nodes x_j. With W = diag(w) and
    √W k(X, X) √W u = λ u, the eigenfunction is φ(x) = λ⁻¹ Σ_j k(x, x_j) √w_j u_j,
    :eq:`eq-nystrom`; the φ are orthonormal in the weighted sum.

    Args:
        kernel: any scalar kernel ``k(x1, x2=None)``.
        x: nodes, shape (n, d): a sample of the measure, or nodes of a quadrature rule.
        rank: how many pairs, 1 ≤ rank ≤ n.
        weights: positive, shape (n,), the dtype of x; ``None`` means 1/n each.

    Raises:
        TypeError, ValueError: wrong dtype or shape, NaN or infinite entries, a weight ≤ 0,
            a rank for which the eigenvalue is lost in rounding, or k(x, x) not symmetric.
        numpy.linalg.LinAlgError: k(x, x) has a negative eigenvalue.
    """
    nodes = _check.points("x", x)
    n = len(nodes)
    rank = _check.integer("rank", rank, at_least=1)
    if rank > n:
        raise ValueError(f"rank: expected at most the number of nodes, {n}, got {rank}")
    w = jnp.full(n, 1 / n, nodes.dtype) if weights is None else _check.floats("weights", weights)
    _check.same_dtype(x=nodes, weights=w)
    _check.shape("weights", w, (n,))
    if not isinstance(w, jax.core.Tracer) and not (w > 0).all():
        raise ValueError(f"weights: expected positive numbers, smallest {float(w.min()):.3g}")
    k = as_kernel(kernel)
    root = jnp.sqrt(w)
    gram = k(nodes)
    _check.shape("kernel(x)", gram, (n, n))
    _check.symmetric("kernel(x)", gram)
    spectrum, vectors = jnp.linalg.eigh(root[:, None] * gram * root[None])
    eigenvalues, vectors = spectrum[::-1][:rank], vectors[:, ::-1][:, :rank]
    if not isinstance(eigenvalues, jax.core.Tracer):
        if spectrum[0] < -_rounding(nodes) * jnp.abs(spectrum).max():
            raise np.linalg.LinAlgError(
                f"kernel: k(x, x) has the eigenvalue {float(spectrum[0]):.1e}, so it is no kernel"
            )
        resolved = int((eigenvalues > n * np.finfo(nodes.dtype).eps * eigenvalues[0]).sum())
        if resolved < rank:
            raise ValueError(
                f"rank: only {resolved} eigenvalues stand clear of rounding, got {rank}"
            )
    return Mercer(k, nodes, eigenvalues, root[:, None] * vectors / eigenvalues[None])


def _times(gram: Array, coefficients: Array) -> Array:
    """Σⱼ k(xᵢ, xⱼ) αⱼ for scalar (n1, n2) and matrix-valued (n1, n2, m, m) kernels."""
    if gram.ndim == 2:
        return gram @ coefficients
    _check.shape("coefficients", coefficients, (gram.shape[1], gram.shape[3]))
    return jnp.einsum("ijab,jb->ia", gram, coefficients)


def _regress(kernel: KernelFunction, x: ArrayLike, y: ArrayLike, penalty: ArrayLike) -> Element:
    """Solve (k(X, X) + penalty · I) α = y by Cholesky's method."""
    x, y = _check.points("x", x), _check.floats("y", y)
    _check.same_dtype(x=x, y=y)
    _check.columns("y", y, len(x))
    gram = as_kernel(kernel)(x)
    if gram.ndim == 4:
        n, _, m, _ = gram.shape
        _check.shape("y", y, (n, m))
        matrix, right = gram.transpose(0, 2, 1, 3).reshape(n * m, n * m), y.reshape(n * m)
    else:
        matrix, right = gram, y
    _check.symmetric("kernel(x)", matrix)
    alpha, definite = _solve(matrix, penalty, right)
    if not isinstance(definite, jax.core.Tracer) and not definite:
        eigenvalues = jnp.linalg.eigvalsh(matrix) + penalty
        smallest, scale = float(eigenvalues[0]), float(eigenvalues.mean())
        raise np.linalg.LinAlgError(
            f"kernel: k(x, x) + penalty · I is not positive definite in {x.dtype}: smallest "
            f"eigenvalue {smallest:.1e} beside a mean of {scale:.1e}. Likely causes: equal or "
            "near-equal points, a kernel of low rank, float32, or a function that is no kernel"
        )
    return Element(kernel, x, alpha.reshape(y.shape))


@jax.jit
def _solve(matrix: Array, penalty: ArrayLike, right: Array) -> tuple[Array, Array]:
    """(matrix + penalty · I)⁻¹ right, and whether Cholesky's method went through."""
    factor = cho_factor(matrix + penalty * jnp.eye(len(matrix), dtype=matrix.dtype), lower=True)
    return cho_solve(factor, right), jnp.isfinite(factor[0]).all()


def _rounding(x: Array) -> float:
    """A generous multiple of the unit of rounding for sums over len(x) terms."""
    return 100 * len(x) * float(np.finfo(x.dtype).eps)
