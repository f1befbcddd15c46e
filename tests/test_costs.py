"""Costs and their functional derivatives, against closed forms and other software."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from helpers import assert_close, refused
from sklearn.metrics import log_loss

from ntklib.costs import Cost, cross_entropy, logistic, mean_square

FLOAT = jnp.result_type(float)
rng = np.random.default_rng(3)
U = rng.normal(size=(7, 3)).astype(FLOAT)
Y = rng.normal(size=(7, 3)).astype(FLOAT)
SIGNS = np.where(rng.uniform(size=(7, 3)) < 0.5, -1, 1)
CLASSES = np.array([0, 2, 1, 1, 0, 2, 2])
COSTS = {
    "mean square": (mean_square(Y), U),
    "one output": (mean_square(Y[:, 0]), U[:, 0]),
    "logistic": (logistic(SIGNS[:, 0]), U[:, 0]),
    "three questions": (logistic(SIGNS), U),
    "cross-entropy": (cross_entropy(CLASSES), U),
    "any": (Cost(lambda u: jnp.mean(jnp.sum(jnp.cosh(u), axis=1))), U),
}
every_cost = pytest.mark.parametrize(("cost", "u"), COSTS.values(), ids=COSTS)


def test_values_are_those_of_the_formulas():
    assert_close(mean_square(Y)(U), ((U - Y) ** 2).sum() / 14)
    assert_close(mean_square(Y[:, 0])(U[:, 0]), ((U[:, 0] - Y[:, 0]) ** 2).mean() / 2)
    assert_close(logistic(SIGNS)(U), np.log1p(np.exp(-SIGNS * U.astype(float))).sum() / 7, times=3)


def test_values_are_those_of_scikit_learn():
    u = U.astype("float64")
    assert_close(
        cross_entropy(CLASSES)(U), log_loss(CLASSES, scipy.special.softmax(u, axis=1)), times=3
    )
    positive = scipy.special.expit(u[:, 0])
    assert_close(logistic(SIGNS[:, 0])(U[:, 0]), log_loss(SIGNS[:, 0], positive), times=3)


def test_derivatives_are_those_of_the_formulas():
    assert_close(mean_square(Y).derivative(U), U - Y)
    signs = SIGNS[:, 0]
    slope = -signs * scipy.special.expit(-signs * U[:, 0].astype("float64"))
    assert_close(logistic(signs).derivative(U[:, 0]), slope, times=3)
    probability = scipy.special.softmax(U.astype("float64"), axis=1)
    assert_close(cross_entropy(CLASSES).derivative(U), probability - np.eye(3)[CLASSES], times=3)
    assert_close(COSTS["any"][0].derivative(U), np.sinh(U), times=3)


@every_cost
def test_the_derivative_is_the_slope_in_every_direction(cost, u):
    h = rng.normal(size=u.shape)
    with jax.enable_x64(True):
        wide = jax.tree.map(
            lambda a: a.astype("float64") if a.dtype == np.float32 else jnp.asarray(a), cost
        )
        v, step = u.astype("float64"), 1e-5
        difference = (wide(v + step * h) - wide(v - step * h)) / (2 * step)
        pairing = jnp.vdot(wide.derivative(v), h) / len(v)
        np.testing.assert_allclose(difference, pairing, rtol=1e-8, atol=1e-9)


@every_cost
def test_the_curvature_bounds_the_second_derivative(cost, u):
    hessian = jax.hessian(cost)(u).reshape(u.size, u.size)
    largest = len(u) * np.linalg.eigvalsh(hessian)[-1]
    if cost.curvature is None:
        assert largest > 1
    else:
        assert largest <= cost.curvature + 1e-6


@pytest.mark.parametrize(
    ("cost", "u", "least"),
    [
        (logistic([1, -1]), [0.0, 0.0], 0.25),
        (cross_entropy([0, 1]), [[40.0, 40.0, 0.0], [0.0, 0.0, 0.0]], 0.5),
    ],
    ids=["logistic", "cross-entropy"],
)
def test_the_curvature_is_attained(cost, u, least):
    u = np.array(u, FLOAT)
    hessian = jax.hessian(cost)(u).reshape(u.size, u.size)
    assert_close(len(u) * np.linalg.eigvalsh(hessian)[-1], least, times=3)


def test_large_values_neither_overflow_nor_vanish():
    huge = np.array([3e4, -3e4], FLOAT)
    assert_close(logistic([1, -1])(huge), 0.0)
    assert_close(logistic([-1, 1])(huge), 3e4)
    assert_close(logistic([-1, 1]).derivative(huge), [1.0, -1.0])
    assert_close(cross_entropy([0, 1])(np.array([huge, huge])), 3e4)
    assert_close(
        cross_entropy([0, 1]).derivative(np.array([huge, huge])), [[0.0, 0.0], [1.0, -1.0]]
    )


@pytest.mark.parametrize("dtype", sorted({"float32", FLOAT.name}))
def test_dtype_is_kept(dtype):
    u = U.astype(dtype)
    for cost in (mean_square(Y.astype(dtype)), logistic(SIGNS), cross_entropy(CLASSES)):
        assert cost(u).dtype == cost.derivative(u).dtype == dtype


@every_cost
def test_costs_pass_through_jit(cost, u):
    value, slope = jax.jit(lambda cost, u: (cost(u), cost.derivative(u)))(cost, u)
    assert_close(value, cost(u), times=3)
    assert_close(slope, cost.derivative(u), times=3)
    assert_close(jax.jit(cost.derivative)(u), cost.derivative(u), times=3)


def test_two_costs_of_one_kind_share_one_compilation():
    traced = []

    @jax.jit
    def value(cost, u):
        traced.append(1)
        return cost(u)

    value(mean_square(Y), U)
    value(mean_square(2 * Y), U)
    assert len(traced) == 1


def told(array):
    array = np.asarray(array)
    return f"got {array.dtype} of shape {array.shape}"


@pytest.mark.parametrize(
    "labels", [[0, 1], [1.5, 1.0], [True, False], [[[1]]], [], 1, ["a"]], ids=repr
)
def test_logistic_labels_are_checked(labels):
    with pytest.raises(ValueError, match=r"^labels: expected −1 and 1 in shape") as refusal:
        logistic(labels)
    assert told(labels) in str(refusal.value)


@pytest.mark.parametrize("labels", [[0, -1], [0.0, 1.0], [True, False], [[0, 1]], [], 1], ids=repr)
def test_classes_are_checked(labels):
    with pytest.raises(ValueError, match=r"^labels: expected integers ≥ 0 in shape") as refusal:
        cross_entropy(labels)
    assert told(labels) in str(refusal.value)


def test_arguments_are_checked():
    with refused(ValueError, "values: the class 2 has no column in values of shape (7, 2)"):
        cross_entropy(CLASSES)(U[:, :2])
    with refused(ValueError, "values: expected shape (7, m), got (6, 3)"):
        cross_entropy(CLASSES)(U[:6])
    with refused(ValueError, "values: expected shape (7, m), got (7,)"):
        cross_entropy(CLASSES)(U[:, 0])
    for cost in (mean_square(Y), logistic(SIGNS)):
        with refused(ValueError, "values: expected shape (7, 3), got (7,)"):
            cost(U[:, 0])
    with refused(ValueError, "values: 1 of 21 entries are NaN or infinite"):
        mean_square(Y).derivative(np.where(U[0, 0] == U, np.nan, U))
    with refused(ValueError, "values: expected shape (N,) or (N, m), got (1, 7, 3)"):
        mean_square(Y)(U[None])
    with refused(ValueError, "values: expected shape (N,) or (N, m), got ()"):
        logistic([1])(U[0, 0])
    with refused(ValueError, "y: expected shape (N,) or (N, m), got ()"):
        mean_square(Y[0, 0])
    with refused(TypeError, "y: expected float32 or float64, got int64"):
        mean_square([1, 2])
    with refused(ValueError, "cost(values): expected shape (), got (7, 3)"):
        Cost(jnp.cosh)(U)
    with (
        jax.enable_x64(True),
        refused(TypeError, "expected one dtype, got values float32, y float64"),
    ):
        mean_square(Y.astype("float64"))(U.astype("float32"))
