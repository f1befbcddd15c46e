"""Checks of input, run once at the public edge.

Each names the argument, what was given and what was expected. Under `jax.jit` or
`jax.grad` values are unknown: shapes and dtypes are still checked, values are not.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

FLOATS = ("float32", "float64")


def floats(name: str, value: ArrayLike) -> Array:
    """A float32 or float64 array with finite entries, in the dtype it came in.

    Raises:
        TypeError: another dtype, or float64 while JAX is in its 32-bit mode (it would be
            rounded to float32 without a word).
        ValueError: NaN or infinite entries.
    """
    given = value if isinstance(value, jax.Array) else np.asarray(value)
    if str(given.dtype) not in FLOATS:
        raise TypeError(f"{name}: expected float32 or float64, got {given.dtype}")
    if given.dtype == np.float64 and jnp.result_type(float) == np.float32:
        raise TypeError(
            f"{name}: got float64 while JAX is in 32-bit mode; call "
            'jax.config.update("jax_enable_x64", True) first, or pass float32'
        )
    if not isinstance(given, jax.core.Tracer):
        # In NumPy: inside a trace jax.numpy would turn even known values into tracers.
        bad = given.size - np.isfinite(np.asarray(given)).sum()
        if bad:
            raise ValueError(f"{name}: {bad} of {given.size} entries are NaN or infinite")
    return jnp.asarray(given)


def points(name: str, x: ArrayLike, dimension: int | None = None) -> Array:
    """A batch of points, shape (n, d) with n, d ≥ 1 (and d = dimension if given).

    Raises:
        TypeError: not float32 or float64.
        ValueError: another shape, no points, NaN or infinite entries.
    """
    array = floats(name, x)
    wanted = "(n, d)" if dimension is None else f"(n, {dimension})"
    if array.ndim != 2 or (dimension is not None and array.shape[1] != dimension):
        hint = "; one-dimensional points are a column, x[:, None]" if array.ndim == 1 else ""
        raise ValueError(f"{name}: expected shape {wanted}, got {array.shape}{hint}")
    if array.size == 0:
        raise ValueError(f"{name}: expected shape {wanted} with n, d ≥ 1, got {array.shape}")
    return array


def same_dtype(**arrays: Array) -> None:
    """Raises TypeError unless all arrays share one dtype."""
    if len({a.dtype for a in arrays.values()}) > 1:
        told = ", ".join(f"{name} {a.dtype}" for name, a in arrays.items())
        raise TypeError(f"expected one dtype, got {told}")


def shape(name: str, array: Array, *expected: tuple[int, ...]) -> None:
    """Raises ValueError unless the array has one of the expected shapes."""
    if array.shape not in expected:
        wanted = " or ".join(map(str, expected))
        raise ValueError(f"{name}: expected shape {wanted}, got {array.shape}")


def columns(name: str, array: Array, n: int) -> None:
    """Raises ValueError unless the shape is (n,) or (n, m) with m ≥ 1."""
    if array.ndim not in (1, 2) or array.shape[0] != n or array.size == 0:
        raise ValueError(f"{name}: expected shape ({n},) or ({n}, m), got {array.shape}")


def number(
    name: str,
    value: ArrayLike,
    *,
    above: float | None = None,
    at_least: float | None = None,
) -> ArrayLike:
    """A finite real scalar, above (or at least) a limit; a Python float unless traced.

    A Python float is weakly typed, so it never changes the dtype of the points it meets.

    Raises:
        TypeError: not a real scalar.
        ValueError: NaN, infinite or out of range.
    """
    array = value if isinstance(value, jax.Array) else np.asarray(value)
    if array.ndim != 0 or array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected a real number, got {value!r}")
    if isinstance(value, jax.core.Tracer):
        return value
    x = float(array)
    limit = (
        f"> {above:g}" if above is not None else f"≥ {at_least:g}" if at_least is not None else ""
    )
    inside = (above is None or x > above) and (at_least is None or x >= at_least)
    if not np.isfinite(x) or not inside:
        raise ValueError(f"{name}: expected a finite number {limit}".rstrip() + f", got {x:g}")
    return x


def integer(name: str, value: int, *, at_least: int) -> int:
    """An integer, at least a limit.

    Raises:
        TypeError: not an integer.
        ValueError: below the limit.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    if value < at_least:
        raise ValueError(f"{name}: expected an integer ≥ {at_least}, got {value}")
    return int(value)


def positive_semidefinite(name: str, matrix: Array) -> None:
    """Raises ValueError unless a matrix is square, symmetric and without negative eigenvalue.

    The last two up to rounding, 10 n eps max|matrix|; there traced matrices pass.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ValueError(f"{name}: expected shape (m, m) with m ≥ 1, got {matrix.shape}")
    if isinstance(matrix, jax.core.Tracer):
        return
    a = np.asarray(matrix)
    rounding = 10 * len(a) * np.finfo(a.dtype).eps * np.abs(a).max()
    if np.abs(a - a.T).max() > rounding:
        raise ValueError(f"{name}: expected a symmetric matrix")
    smallest = np.linalg.eigvalsh(a)[0]
    if smallest < -rounding:
        raise ValueError(
            f"{name}: expected a positive-semidefinite matrix, smallest eigenvalue {smallest:.3g}"
        )


def symmetric(name: str, gram: Array) -> None:
    """Raises ValueError unless a square matrix is symmetric up to √eps; traced ones pass.

    Factorisations read one triangle, and would not notice.
    """
    if isinstance(gram, jax.core.Tracer):
        return
    a = np.asarray(gram)
    apart = np.abs(a - a.T).max()
    if apart > np.sqrt(np.finfo(a.dtype).eps) * np.abs(a).max():
        raise ValueError(f"{name}: expected a symmetric matrix, entries differ by {apart:.3g}")
