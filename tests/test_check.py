"""Checks of input: every refusal names the argument, what was given and what was expected."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import refused

from ntklib import _check

FLOAT = jnp.result_type(float)
EPS = float(np.finfo(FLOAT).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_keep_their_dtype(dtype):
    with jax.enable_x64(True):
        array = _check.floats("x", np.array([1.5, -2.0], dtype))
        assert isinstance(array, jax.Array)
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, [1.5, -2.0])


def test_lists_of_floats_are_float64():
    with jax.enable_x64(True):
        assert _check.floats("x", [[1.0, 2.0]]).dtype == "float64"


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([1, 2], "int64"),
        (np.zeros(2, "float16"), "float16"),
        (np.zeros(2, complex), "complex128"),
        ([True], "bool"),
        ("abc", "<U3"),
        (None, "object"),
        (np.zeros(2, "int32"), "int32"),
    ],
)
def test_other_dtypes_are_refused(value, dtype):
    with refused(TypeError, f"x: expected float32 or float64, got {dtype}"):
        _check.floats("x", value)


def test_jax_arrays_of_other_dtypes_are_refused():
    with refused(TypeError, "x: expected float32 or float64, got bfloat16"):
        _check.floats("x", jnp.zeros(2, "bfloat16"))


def test_float64_is_refused_in_32_bit_mode():
    message = (
        "x: got float64 while JAX is in 32-bit mode; call "
        'jax.config.update("jax_enable_x64", True) first, or pass float32'
    )
    with jax.enable_x64(False):
        with refused(TypeError, message):
            _check.floats("x", np.zeros(2))
        assert _check.floats("x", np.zeros(2, "float32")).dtype == "float32"


@pytest.mark.parametrize(
    ("entries", "bad"),
    [([1, np.nan, 2, 3], 1), ([np.inf, np.nan, 1, 2], 2), ([-np.inf, 1, 1, 1], 1)],
)
def test_values_that_are_not_finite_are_counted(entries, bad):
    with refused(ValueError, f"x: {bad} of 4 entries are NaN or infinite"):
        _check.floats("x", np.array(entries, FLOAT))
    with refused(ValueError, f"x: {bad} of 4 entries are NaN or infinite"):
        _check.floats("x", jnp.array(entries, FLOAT))


def test_traced_values_pass_but_traced_dtypes_do_not():
    nan = jnp.array([np.nan], FLOAT)
    assert np.isnan(jax.jit(lambda x: _check.floats("x", x))(nan)).all()
    with refused(TypeError, "x: expected float32 or float64, got int32"):
        jax.jit(lambda x: _check.floats("x", x))(jnp.zeros(2, "int32"))


def test_known_values_are_checked_inside_a_trace_too():
    nan = np.array([np.nan], FLOAT)
    with refused(ValueError, "x: 1 of 1 entries are NaN or infinite"):
        jax.jit(lambda y: y + _check.floats("x", nan))(jnp.zeros(1, FLOAT))


def test_points():
    x = np.ones((2, 3), FLOAT)
    assert _check.points("x", x).shape == (2, 3)
    assert _check.points("x", x, 3).shape == (2, 3)
    assert _check.points("x", x[:1, :1]).shape == (1, 1)


@pytest.mark.parametrize(
    ("shape", "dimension", "told"),
    [
        ((2, 2, 2), None, "expected shape (n, d), got (2, 2, 2)"),
        ((), None, "expected shape (n, d), got ()"),
        (
            (4,),
            None,
            "expected shape (n, d), got (4,); one-dimensional points are a column, x[:, None]",
        ),
        (
            (4,),
            3,
            "expected shape (n, 3), got (4,); one-dimensional points are a column, x[:, None]",
        ),
        ((4, 3), 2, "expected shape (n, 2), got (4, 3)"),
        ((4, 2), 3, "expected shape (n, 3), got (4, 2)"),
        ((2, 3, 4), 3, "expected shape (n, 3), got (2, 3, 4)"),
        ((0, 3), None, "expected shape (n, d) with n, d ≥ 1, got (0, 3)"),
        ((3, 0), None, "expected shape (n, d) with n, d ≥ 1, got (3, 0)"),
        ((0, 3), 3, "expected shape (n, 3) with n, d ≥ 1, got (0, 3)"),
    ],
)
def test_other_shapes_are_no_points(shape, dimension, told):
    with refused(ValueError, f"x1: {told}"):
        _check.points("x1", np.ones(shape, FLOAT), dimension)


def test_one_dtype():
    single, double = np.zeros(1, "float32"), np.zeros(1)
    _check.same_dtype(a=single, b=single)
    _check.same_dtype(a=double, b=double)
    with refused(TypeError, "expected one dtype, got a float32, b float64"):
        _check.same_dtype(a=single, b=double)


def test_shape_is_one_of_the_expected():
    array = np.zeros((2, 3))
    _check.shape("y", array, (2, 3))
    _check.shape("y", array, (4,), (2, 3))
    with refused(ValueError, "y: expected shape (3, 2) or (2,), got (2, 3)"):
        _check.shape("y", array, (3, 2), (2,))


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 5)])
def test_columns(shape):
    _check.columns("y", np.zeros(shape), 3)


@pytest.mark.parametrize("shape", [(), (4,), (2,), (4, 3), (3, 0), (3, 2, 1)])
def test_other_shapes_are_no_columns(shape):
    with pytest.raises(
        ValueError, match=re.escape(f"y: expected shape (3,) or (3, m), got {shape}")
    ):
        _check.columns("y", np.zeros(shape), 3)


def test_no_columns_for_no_points():
    with refused(ValueError, "y: expected shape (0,) or (0, m), got (0,)"):
        _check.columns("y", np.zeros(0), 0)


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int64(2), np.array(2.0, "float32")])
def test_numbers_become_python_floats(value):
    assert type(_check.number("c", value)) is float
    assert _check.number("c", value) == 2.0
    assert type(_check.number("c", jnp.asarray(2.0))) is float


@pytest.mark.parametrize(
    "value", ["1", None, True, np.True_, 1j, [1.0], np.ones(2), {}, 10**400], ids=repr
)
def test_what_is_no_number(value):
    with pytest.raises(
        TypeError, match=f"^c: expected a real number, got {re.escape(repr(value))}"
    ):
        _check.number("c", value)


@pytest.mark.parametrize("value", [jnp.ones(1), jnp.asarray(True), jnp.ones((), complex)])
def test_jax_arrays_that_are_no_number(value):
    with pytest.raises(TypeError, match=r"^c: expected a real number, got Array\("):
        _check.number("c", value)


def test_limits_of_numbers():
    assert _check.number("c", 0, at_least=0) == 0
    assert _check.number("c", 1e-300, above=0) == 1e-300
    assert _check.number("c", -7) == -7
    assert _check.number("c", 2, above=0, at_least=1) == 2
    for value, limits, told in [
        (0, {"above": 0}, "number > 0, got 0"),
        (-1.5, {"above": 0}, "number > 0, got -1.5"),
        (0.5, {"above": 0.5}, "number > 0.5, got 0.5"),
        (-1e-9, {"at_least": 0}, "number ≥ 0, got -1e-09"),
        (0.25, {"at_least": 0.5}, "number ≥ 0.5, got 0.25"),
        (0.25, {"above": 0, "at_least": 0.5}, "number > 0, got 0.25"),
        (np.nan, {}, "number, got nan"),
        (np.inf, {}, "number, got inf"),
        (-np.inf, {}, "number, got -inf"),
        (np.nan, {"above": 0}, "number > 0, got nan"),
        (np.inf, {"above": 0}, "number > 0, got inf"),
        (np.nan, {"at_least": 0}, "number ≥ 0, got nan"),
    ]:
        with refused(ValueError, f"c: expected a finite {told}"):
            _check.number("c", value, **limits)


def test_traced_numbers_pass_with_their_shape_checked():
    assert jax.jit(lambda c: _check.number("c", c, above=0))(-1.0) == -1
    with pytest.raises(TypeError, match=r"^c: expected a real number, got .*Tracer"):
        jax.jit(lambda c: _check.number("c", c))(jnp.ones(2, FLOAT))


@pytest.mark.parametrize("value", [3, np.int32(3), np.uint8(3)])
def test_integers(value):
    assert type(_check.integer("degree", value, at_least=3)) is int
    assert _check.integer("degree", value, at_least=1) == 3


@pytest.mark.parametrize("value", [3.0, "3", True, np.True_, None, [3]], ids=repr)
def test_what_is_no_integer(value):
    with refused(TypeError, f"degree: expected an integer, got {value!r}"):
        _check.integer("degree", value, at_least=1)


def test_integers_have_a_lower_limit():
    with refused(ValueError, "degree: expected an integer ≥ 2, got 1"):
        _check.integer("degree", 1, at_least=2)
    with refused(ValueError, "degree: expected an integer ≥ 2, got 0"):
        _check.integer("degree", 0, at_least=2)


def test_semidefinite_matrices_pass():
    factor = np.arange(12.0).reshape(4, 3).astype(FLOAT)
    for matrix in [np.zeros((2, 2)), np.eye(1), factor @ factor.T]:
        _check.positive_semidefinite("B", jnp.asarray(matrix, FLOAT))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (3, 2), (0, 0), (2, 2, 2), (1, 2, 2)])
def test_only_square_matrices_pass(shape):
    with refused(ValueError, f"B: expected shape (m, m) with m ≥ 1, got {shape}"):
        _check.positive_semidefinite("B", jnp.ones(shape, FLOAT))


@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_rounding_of_matrices_is_ten_n_eps(scale):
    n = 30
    rounding = 10 * n * EPS * scale
    for part, (i, j) in [(0.97, (2, 5)), (0.97, (0, 0)), (0.97, (5, 2))]:
        matrix = scale * np.eye(n, dtype=FLOAT)
        matrix[i, j] = -part * rounding
        _check.positive_semidefinite("B", jnp.asarray(matrix))
    asymmetric, indefinite = scale * np.eye(n, dtype=FLOAT), scale * np.eye(n, dtype=FLOAT)
    asymmetric[2, 5] = 1.03 * rounding
    indefinite[7, 7] = -1.03 * rounding
    with refused(ValueError, "B: expected a symmetric matrix"):
        _check.positive_semidefinite("B", jnp.asarray(asymmetric))
    with refused(
        ValueError,
        f"B: expected a positive-semidefinite matrix, smallest eigenvalue {indefinite[7, 7]:.3g}",
    ):
        _check.positive_semidefinite("B", jnp.asarray(indefinite))


def test_the_size_of_a_matrix_is_that_of_its_largest_entry_by_modulus():
    matrix = jnp.array([[0, 1], [1, 0]], FLOAT)
    with refused(ValueError, "B: expected a positive-semidefinite matrix, smallest eigenvalue -1"):
        _check.positive_semidefinite("B", matrix)
    with refused(ValueError, "B: expected a positive-semidefinite matrix, smallest eigenvalue -2"):
        _check.positive_semidefinite("B", jnp.diag(jnp.array([-2, -1], FLOAT)))


def test_traced_matrices_pass_with_their_shape_checked():
    def check(b):
        _check.positive_semidefinite("B", b)
        return b

    jax.jit(check)(-jnp.eye(2, dtype=FLOAT))
    with refused(ValueError, "B: expected shape (m, m) with m ≥ 1, got (2, 3)"):
        jax.jit(check)(jnp.ones((2, 3), FLOAT))
