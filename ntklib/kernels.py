"""Positive-definite kernels, and how new ones are made from old.

A kernel is a function ``k(x1, x2=None)`` on batches of points, shapes (n1, d) and (n2, d),
that returns the Gram matrix, shape (n1, n2); ``x2=None`` means ``x1``. A matrix-valued
kernel returns (n1, n2, m, m). Most kernels here are written at two single points; the step
to batches is made once, in `Pointwise`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from ntklib import _check

__all__ = [
    "FromFunction",
    "Kernel",
    "Linear",
    "Polynomial",
    "Product",
    "Scaled",
    "Sum",
    "as_kernel",
]

KernelFunction = Callable[..., Array]
K = TypeVar("K")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def pytree(cls: type[K]) -> type[K]:
    """Make a frozen dataclass a pytree: fields are leaves unless marked static.

    Rebuilding a tree skips ``__post_init__``: JAX also fills trees with placeholders.
    """
    made: Any = dataclass(frozen=True, eq=False)(cls)
    static = [f.name for f in fields(made) if f.metadata.get("static")]
    leaves = [f.name for f in fields(made) if f.name not in static]

    def flatten(kernel: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(kernel, n) for n in leaves), tuple(getattr(kernel, n) for n in static)

    def unflatten(aux: tuple[Any, ...], children: tuple[Any, ...]) -> Any:
        kernel: Any = object.__new__(cls)
        set_fields(
            kernel,
            **dict(zip(leaves, children, strict=True)),
            **dict(zip(static, aux, strict=True)),
        )
        return kernel

    jax.tree_util.register_pytree_node(cls, flatten, unflatten)
    return cls


def set_fields(kernel: Any, /, **values: Any) -> None:
    """Store values in a frozen dataclass."""
    for name, value in values.items():
        object.__setattr__(kernel, name, value)


class Kernel(ABC):
    """A positive-semidefinite kernel: k(x1, x2) = k(x2, x1)ᵀ and Σᵢⱼ αᵢᵀ k(xᵢ, xⱼ) αⱼ ≥ 0.

    :eq:`eq-psd` defines it; by :prf:ref:`prop-closure` ``k1 + k2``, ``k1 * k2`` and
    ``c * k`` with c ≥ 0 are kernels again. The other operand may be any function
    ``k(x1, x2=None)``.
    """

    def __call__(self, x1: ArrayLike, x2: ArrayLike | None = None) -> Array:
        """The Gram matrix.

        Args:
            x1: points, shape (n1, d), float32 or float64.
            x2: points, shape (n2, d), the dtype of x1; ``None`` means x1.

        Returns:
            Shape (n1, n2), or (n1, n2, m, m) for a matrix-valued kernel, in the dtype of x1.

        Raises:
            TypeError: a dtype other than float32 and float64, or two dtypes.
            ValueError: another shape, no points, NaN or infinite entries.
        """
        x1 = _check.points("x1", x1)
        if x2 is None:
            return self._gram(x1, x1)
        x2 = _check.points("x2", x2, x1.shape[1])
        _check.same_dtype(x1=x1, x2=x2)
        return self._gram(x1, x2)

    @abstractmethod
    def _gram(self, x1: Array, x2: Array) -> Array: ...

    def __eq__(self, other: object) -> bool:
        form: Any = jax.tree.structure(self)
        same = bool(form == jax.tree.structure(other))
        return same and all(map(_equal, jax.tree.leaves(self), jax.tree.leaves(other)))

    def __hash__(self) -> int:
        # Of the class alone: parameters may be arrays. scikit-learn asks for a hash.
        return hash(type(self))

    def __add__(self, other: KernelFunction) -> "Sum":
        return Sum(self, as_kernel(other)) if callable(other) else NotImplemented

    __radd__ = __add__

    def __mul__(self, other: KernelFunction | ArrayLike) -> "Product | Scaled":
        return Product(self, as_kernel(other)) if callable(other) else Scaled(self, other)

    __rmul__ = __mul__


def _equal(a: ArrayLike, b: ArrayLike) -> bool:
    """Equal values; traced ones are unknown and pass, as in the checks of input."""
    traced = isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer)
    return traced or np.array_equal(a, b)


@jax.jit
def _all_pairs(kernel: "Pointwise", x1: Array, x2: Array) -> Array:
    one_against_all = jax.vmap(kernel.evaluate, in_axes=(None, 0))
    gram: Array = jax.vmap(one_against_all, in_axes=(0, None))(x1, x2)
    return gram


class Pointwise(Kernel):
    """A kernel given by its value at two single points, `evaluate`."""

    @abstractmethod
    def evaluate(self, x: Array, y: Array) -> Array:
        """k(x, y) for single points, shape (d,) each."""

    def _gram(self, x1: Array, x2: Array) -> Array:
        gram: Array = _all_pairs(self, x1, x2)
        return gram


@pytree
class Linear(Pointwise):
    """k(x, y) = ⟨x, y⟩, the kernel of linear functions x ↦ ⟨w, x⟩ with ‖f‖ = ‖w‖."""

    def evaluate(self, x: Array, y: Array) -> Array:
        return x @ y


@pytree
class Polynomial(Pointwise):
    """k(x, y) = (⟨x, y⟩ + offset)^degree, a kernel by :prf:ref:`prop-closure`.

    Args:
        degree: an integer ≥ 1.
        offset: a number ≥ 0; above 0 the space holds all polynomials up to the degree.

    Raises:
        TypeError: degree is not an integer or offset no number.
        ValueError: out of range.
    """

    degree: int = field(metadata={"static": True})
    offset: ArrayLike = 1.0

    def __post_init__(self) -> None:
        set_fields(self, degree=_check.integer("degree", self.degree, at_least=1))
        set_fields(self, offset=_check.number("offset", self.offset, at_least=0))

    def evaluate(self, x: Array, y: Array) -> Array:
        return (x @ y + self.offset) ** self.degree


def _same_shape(left: Array, right: Array) -> tuple[Array, Array]:
    _check.shape("right(x1, x2)", right, left.shape)
    _check.same_dtype(left=left, right=right)
    return left, right


@pytree
class Sum(Kernel):
    """k(x, y) = left(x, y) + right(x, y); its space is the sum of the two spaces."""

    left: Kernel
    right: Kernel

    def _gram(self, x1: Array, x2: Array) -> Array:
        return jnp.add(*_same_shape(self.left(x1, x2), self.right(x1, x2)))


@pytree
class Product(Kernel):
    """k(x, y) = left(x, y) right(x, y), entry by entry (Schur's product theorem)."""

    left: Kernel
    right: Kernel

    def _gram(self, x1: Array, x2: Array) -> Array:
        return jnp.multiply(*_same_shape(self.left(x1, x2), self.right(x1, x2)))


@pytree
class Scaled(Kernel):
    """k(x, y) = scale · kernel(x, y).

    Raises:
        TypeError: scale is not a real number.
        ValueError: scale is negative, NaN or infinite: −k is no kernel.
    """

    kernel: Kernel
    scale: ArrayLike

    def __post_init__(self) -> None:
        set_fields(self, kernel=as_kernel(self.kernel))
        set_fields(self, scale=_check.number("scale", self.scale, at_least=0))

    def _gram(self, x1: Array, x2: Array) -> Array:
        return jnp.multiply(self.scale, self.kernel(x1, x2))


@pytree
class FromFunction(Kernel):
    """Any function ``k(x1, x2)`` on batches as a `Kernel`, taken at its word to be one.

    It takes part in sums, products and scalings like the others.
    """

    function: KernelFunction = field(metadata={"static": True})

    def _gram(self, x1: Array, x2: Array) -> Array:
        gram = _check.floats("kernel(x1, x2)", self.function(x1, x2))
        _check.same_dtype(x1=x1, gram=gram)
        n1, n2 = len(x1), len(x2)
        if gram.shape[:2] != (n1, n2) or gram.shape[2:3] != gram.shape[3:]:
            raise ValueError(
                f"kernel(x1, x2): expected shape ({n1}, {n2}) or ({n1}, {n2}, m, m), "
                f"got {gram.shape}"
            )
        return gram


def as_kernel(k: KernelFunction) -> Kernel:
    """k itself if it is a `Kernel`, else the function wrapped as one.

    Raises:
        TypeError: k is not callable.
    """
    if not callable(k):
        raise TypeError(f"kernel: expected a function k(x1, x2), got {k!r}")
    return k if isinstance(k, Kernel) else FromFunction(k)
