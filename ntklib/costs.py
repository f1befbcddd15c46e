"""Costs of functions: what is small where a function does well on the data.

A cost is a functional of the function alone, C(f), however f is parametrised. On N samples
it reads the values u = f(X), shape (N,) or (N, m), and its derivative at f is the functional
h ↦ (1/N) Σᵢ ⟨dᵢ, h(xᵢ)⟩ with dᵢ = N ∂C/∂uᵢ, :eq:`eq-dual-element`.
"""

from collections.abc import Callable
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from ntklib import _check
from ntklib.kernels import pytree

__all__ = ["Cost", "cross_entropy", "logistic", "mean_square"]


@pytree
class Cost:
    """A cost C(u) of the values u = f(X), and its functional derivative.

    Args:
        function: ``function(u, *data)`` in JAX, differentiable; u has shape (N,) or (N, m), the
            result is a scalar. It takes the mean over samples itself, like all costs here.
        data: what the function takes after u, for example targets: pytrees of arrays.
        curvature: a bound on N times the eigenvalues of the second derivative of C, if one is
            known; `ntklib.kernel_gradient.largest_stable_rate` asks for it.
    """

    function: Callable[..., Array] = field(metadata={"static": True})
    data: tuple[Any, ...] = ()
    curvature: float | None = field(default=None, metadata={"static": True})

    def __call__(self, values: ArrayLike) -> Array:
        """C(u), a scalar.

        Raises:
            TypeError, ValueError: wrong dtype or shape of the values, NaN or infinite entries,
                or a function whose result is no scalar.
        """
        u = _batch("values", values)
        cost = self.function(u, *self.data)
        _check.shape("cost(values)", cost, ())
        return cost

    def derivative(self, values: ArrayLike) -> Array:
        """The dual element d at the data, dᵢ = N ∂C/∂uᵢ, in the shape of the values.

        :eq:`eq-dual-element`, by automatic differentiation.

        Raises:
            TypeError, ValueError: as the call.
        """
        u = _batch("values", values)
        d: Array = len(u) * jax.grad(self)(u)
        return d


def mean_square(y: ArrayLike) -> Cost:
    """C(u) = (1/2N) Σᵢ ‖uᵢ − yᵢ‖², with d = u − y; :eq:`eq-mean-square`.

    Args:
        y: targets, shape (N,) or (N, m), float32 or float64.

    Returns:
        The cost, for values of the shape and dtype of y.

    Raises:
        TypeError, ValueError: wrong dtype or shape, NaN or infinite entries.
    """
    return Cost(_mean_square, (_batch("y", y),), 1.0)


def logistic(labels: ArrayLike) -> Cost:
    """C(u) = (1/N) Σᵢ ln(1 + exp(−yᵢ uᵢ)), with dᵢ = −yᵢ / (1 + exp(yᵢ uᵢ)); :eq:`eq-logistic`.

    Args:
        labels: the yᵢ, each −1 or 1, shape (N,) or (N, m) (m questions, whose costs add up).

    Returns:
        The cost, for values of the shape of the labels.

    Raises:
        ValueError: another shape, or entries other than −1 and 1.
    """
    signs = np.asarray(labels)
    wrong = signs.dtype.kind not in "if" or not np.isin(signs, (-1, 1)).all()
    if wrong or signs.ndim not in (1, 2) or signs.size == 0:
        raise ValueError(f"labels: expected −1 and 1 in shape (N,) or (N, m), got {_told(signs)}")
    return Cost(_logistic, (jnp.asarray(signs.astype(np.int8)),), 0.25)


def cross_entropy(labels: ArrayLike) -> Cost:
    """C(u) = (1/N) Σᵢ (ln Σ_a exp(u_ia) − u_{i,yᵢ}), with d = softmax(u) − one-hot(y).

    :eq:`eq-cross-entropy`.

    Args:
        labels: the classes yᵢ, integers from 0 to m − 1, shape (N,).

    Returns:
        The cost, for values of shape (N, m).

    Raises:
        ValueError: another shape, entries that are no integers, or negative ones; on a call
            with values, a class that they have no column for.
    """
    classes = np.asarray(labels)
    if (
        classes.dtype.kind not in "iu"
        or classes.ndim != 1
        or (classes < 0).any()
        or not len(classes)
    ):
        raise ValueError(f"labels: expected integers ≥ 0 in shape (N,), got {_told(classes)}")
    return Cost(_cross_entropy, (jnp.asarray(classes),), 0.5)


def _batch(name: str, value: ArrayLike) -> Array:
    array = _check.floats(name, value)
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"{name}: expected shape (N,) or (N, m), got {array.shape}")
    return array


def _told(array: np.ndarray) -> str:
    some = ", ".join(str(value) for value in np.unique(array)[:4])
    return f"{array.dtype} of shape {array.shape} with entries {some}, …"


def _mean_square(u: Array, y: Array) -> Array:
    _check.same_dtype(values=u, y=y)
    _check.shape("values", u, y.shape)
    return jnp.sum((u - y) ** 2) / (2 * len(u))


def _logistic(u: Array, labels: Array) -> Array:
    _check.shape("values", u, labels.shape)
    return jnp.sum(jax.nn.softplus(-labels.astype(u.dtype) * u)) / len(u)


def _cross_entropy(u: Array, labels: Array) -> Array:
    if u.ndim != 2 or len(u) != len(labels):
        raise ValueError(f"values: expected shape ({len(labels)}, m), got {u.shape}")
    # In NumPy: inside a trace jax.numpy would turn even known labels into tracers.
    if not isinstance(labels, jax.core.Tracer) and (last := np.asarray(labels).max()) >= u.shape[1]:
        raise ValueError(f"values: the class {last} has no column in values of shape {u.shape}")
    chosen = jnp.take_along_axis(u, labels[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(u, axis=1) - chosen)
