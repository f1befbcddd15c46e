"""Kernels with matrix values, shape (n1, n2, m, m): spaces of vector-valued functions."""

import jax
from jax import Array

from ntklib import _check
from ntklib.kernels import Kernel, Pointwise, as_kernel, pytree, set_fields
from ntklib.stationary import Laplace, Matern, Stationary

__all__ = ["Gradient", "Tensor"]


@pytree
class Tensor(Kernel):
    """The matrix-valued kernel K(x, y) = kernel(x, y) B, :eq:`eq-tensor`.

    Args:
        kernel: a scalar kernel.
        matrix: B, shape (m, m), symmetric positive semidefinite; the identity decouples
            the m outputs.

    Raises:
        ValueError: B is not a symmetric positive-semidefinite matrix.
    """

    kernel: Kernel
    matrix: Array

    def __post_init__(self) -> None:
        set_fields(self, kernel=as_kernel(self.kernel))
        b = _check.floats("matrix", self.matrix)
        _check.positive_semidefinite("matrix", b)
        set_fields(self, matrix=b)

    def _gram(self, x1: Array, x2: Array) -> Array:
        _check.same_dtype(x1=x1, matrix=self.matrix)
        gram = self.kernel(x1, x2)
        _check.shape("kernel(x1, x2)", gram, (len(x1), len(x2)))
        return gram[:, :, None, None] * self.matrix[None, None]


@pytree
class Gradient(Pointwise):
    """K(x, y) = ∂²k/∂x∂yᵀ, shape (d, d): the kernel of gradients of functions of H_k.

    Its functions have no curl (:prf:ref:`prop-gradient-kernel`).

    Args:
        kernel: a scalar kernel with continuous second derivatives ∂²k/∂x∂y.

    Raises:
        TypeError: kernel is no function.
        ValueError: kernel contains a Laplace or Matérn-1/2 kernel: these have a cusp.
    """

    kernel: Kernel

    def __post_init__(self) -> None:
        set_fields(self, kernel=as_kernel(self.kernel))
        parts = jax.tree.leaves(self.kernel, is_leaf=lambda k: isinstance(k, Stationary))
        for k in parts:
            if isinstance(k, Laplace) or (isinstance(k, Matern) and k.nu == 0.5):
                raise ValueError(f"kernel: {k} has a cusp at x = y, so ∂²k/∂x∂y does not exist")

    def evaluate(self, x: Array, y: Array) -> Array:
        def k(a: Array, b: Array) -> Array:
            gram = self.kernel(a[None], b[None])
            _check.shape("kernel(x, y)", gram, (1, 1))
            return gram.squeeze()

        mixed: Array = jax.jacfwd(jax.grad(k), argnums=1)(x, y)
        return mixed
