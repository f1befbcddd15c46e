"""Random features against the kernels they sample, other software and plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, refused
from scipy import stats

from ntklib.dual_activations import erf, relu
from ntklib.kernels import Linear
from ntklib.random_features import (
    FeatureFunction,
    FeatureKernel,
    Fourier,
    HiddenLayer,
    Neurons,
    RandomFunctions,
    random_features,
)
from ntklib.stationary import RBF, Laplace, Matern
from ntklib.tangent import tangent_kernel

FLOAT = jnp.result_type(float)
KEY = jax.random.key(5)
rng = np.random.default_rng(3)
X = rng.normal(size=(5, 3)).astype(FLOAT)
Z = rng.normal(size=(4, 3)).astype(FLOAT)
STATIONARY = [RBF(1.3), Laplace(2.0), Matern(1.5, 0.5), Matern(0.8, 1.5), Matern(1.5, 2.5)]
LAYERS = [HiddenLayer(relu, 1.4), HiddenLayer(relu, 1.2, 0.5), HiddenLayer(erf, 2.0, 0.3)]


def fields(params, x):
    """Random functions with two outputs: the gradient of cosines in the plane of x₁, x₂."""
    waves = jnp.sin(x @ params["w"].T + params["b"][None])
    return waves[:, :, None] * params["w"][None, :, :2]


FIELDS = RandomFunctions(
    fields, {"w": rng.normal(size=(6, 3)).astype(FLOAT), "b": rng.normal(size=6).astype(FLOAT)}
)


@pytest.mark.parametrize(
    ("kernel", "orthogonal"),
    [(k, False) for k in STATIONARY + LAYERS] + [(k, True) for k in (Laplace(2.0), LAYERS[1])],
    ids=lambda value: type(value).__name__,
)
def test_the_mean_over_draws_is_the_kernel(kernel, orthogonal):
    keys = jax.random.split(KEY, 400)

    def draw(key):
        return FeatureKernel(random_features(kernel, 3, 14, key, orthogonal=orthogonal))(X, Z)

    grams = np.asarray(jax.lax.map(draw, keys), np.float64)
    error = grams.mean(0) - np.asarray(kernel(X, Z))
    assert (np.abs(error) < 4.5 * stats.sem(grams, axis=0)).all()
    # The interval is no wider than the kernel's own values, so that the test can fail.
    assert stats.sem(grams, axis=0).max() < 0.1


@pytest.mark.parametrize(
    ("kernel", "law"),
    [
        (RBF(2.0), stats.norm(0, 0.5)),
        (Laplace(0.5), stats.cauchy(0, 2)),
        (Matern(0.5, 1.5), stats.t(3, 0, 2)),
        (Matern(2.0, 2.5), stats.t(5, 0, 0.5)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_coordinate_of_a_frequency_has_its_known_law(kernel, law):
    for orthogonal in (False, True):
        frequencies = random_features(kernel, 3, 8000, KEY, orthogonal=orthogonal).frequencies
        for column in np.asarray(frequencies, np.float64).T:
            assert stats.kstest(column, law.cdf).pvalue > 1e-3
            assert stats.kstest(column / 1.5, law.cdf).pvalue < 1e-6


def test_directions_of_frequencies_are_uniform():
    frequencies = np.asarray(random_features(Laplace(), 2, 8000, KEY).frequencies)
    angles = np.arctan2(*frequencies.T)
    assert stats.kstest(angles, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3


def test_orthogonal_features_keep_the_lengths_and_make_directions_orthonormal():
    for kernel, rows in ((Laplace(), "frequencies"), (LAYERS[0], "weights")):
        plain = getattr(random_features(kernel, 3, 14, KEY), rows)
        turned = getattr(random_features(kernel, 3, 14, KEY, orthogonal=True), rows)
        lengths = np.linalg.norm(plain, axis=1)
        assert_close(np.linalg.norm(turned, axis=1) / lengths, np.ones(len(plain)), times=10)
        for block in (slice(0, 3), slice(3, 6), slice(6, 7)):
            directions = np.asarray(turned[block]) / lengths[block, None]
            assert_close(directions @ directions.T, np.eye(len(directions)), times=10)
            assert np.abs(directions).max() < 0.999


def test_fourier_features_are_waves():
    w = rng.normal(size=(4, 3)).astype(FLOAT)
    expected = np.hstack([np.cos(X @ w.T), np.sin(X @ w.T)]) / 2
    assert_close(Fourier(w)(X), expected, times=10)
    mean = np.mean([np.cos((X[:, None] - Z) @ row) for row in w], axis=0)
    assert_close(FeatureKernel(Fourier(w))(X, Z), mean, times=10)
    assert_close(jnp.diag(FeatureKernel(Fourier(w))(X)), np.ones(5), times=10)


def test_neurons_are_a_hidden_layer():
    w, b = rng.normal(size=(6, 3)).astype(FLOAT), rng.normal(size=6).astype(FLOAT)
    hidden = np.maximum(1.5 / np.sqrt(3) * X @ w.T + 0.5 * b, 0) / np.sqrt(6)
    assert_close(Neurons(relu, w, b, 1.5, 0.5)(X), hidden, times=10)


def test_the_layer_kernel_of_the_relu_is_an_arc_cosine_kernel():
    q = (1.5**2 / 3) * X @ X.T + 0.5**2
    size = np.sqrt(np.outer(np.diag(q), np.diag(q)))
    angle = np.arccos(np.clip(q / size, -1, 1))
    expected = size * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    assert_close(HiddenLayer(relu, 1.5, 0.5)(X), expected, times=1e3 if FLOAT == "float32" else 1e6)


def test_the_layer_kernel_is_an_expectation():
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = np.outer(weights, weights).ravel() / (2 * np.pi)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    x = X[:2].astype(np.float64)
    covariance = 0.6**2 / 3 * x @ x.T + 0.3**2
    u, v = np.linalg.cholesky(covariance) @ grid.T
    expected = weights @ (
        np.asarray(jax.scipy.special.erf(u)) * np.asarray(jax.scipy.special.erf(v))
    )
    assert_close(HiddenLayer(erf, 0.6, 0.3)(X[:1], X[1:2])[0, 0], expected, times=10)


def test_random_functions_carry_the_factor():
    features = RandomFunctions(lambda w, x: jnp.tanh(x @ w), rng.normal(size=(3, 9)).astype(FLOAT))
    assert_close(features(X), np.tanh(X @ features.params) / 3, times=10)


def test_functions_with_several_outputs_sample_a_matrix_valued_kernel():
    values, others = (np.asarray(fields(FIELDS.params, x)) for x in (X, Z))
    expected = np.zeros((5, 4, 2, 2))
    for p in range(6):
        expected += values[:, p][:, None, :, None] * others[:, p][None, :, None, :] / 6
    gram = FeatureKernel(FIELDS)(X, Z)
    assert gram.shape == (5, 4, 2, 2)
    assert_close(gram, expected, times=10)
    theta = rng.normal(size=6).astype(FLOAT)
    function = sum(theta[p] * values[:, p] for p in range(6)) / np.sqrt(6)
    assert_close(FeatureFunction(FIELDS, theta)(X), function, times=10)


@pytest.mark.parametrize(
    "features", [random_features(LAYERS[1], 3, 8, KEY), FIELDS], ids=["1", "2"]
)
def test_the_kernel_is_the_tangent_kernel_of_the_function_whatever_the_weights(features):
    size = features(X).shape[1]
    for seed in range(2):
        theta = np.random.default_rng(seed).normal(size=size).astype(FLOAT)
        tangent = tangent_kernel(lambda t, x: FeatureFunction(features, t)(x), jnp.asarray(theta))
        assert_close(tangent(X, Z), FeatureKernel(features)(X, Z), times=10)


def test_weights_with_columns_are_several_functions():
    features = random_features(RBF(), 3, 8, KEY)
    theta = rng.normal(size=(8, 2)).astype(FLOAT)
    values = FeatureFunction(features, theta)(X)
    assert values.shape == (5, 2)
    for a in range(2):
        assert_close(values[:, a], FeatureFunction(features, theta[:, a])(X), times=10)


def test_the_gram_matrix_is_exactly_symmetric():
    gram = np.asarray(FeatureKernel(random_features(Matern(), 3, 64, KEY))(X))
    np.testing.assert_array_equal(gram, gram.T)


def test_a_key_decides_everything():
    for kernel in (*STATIONARY, *LAYERS):
        for orthogonal in (False, True):
            a, b = (random_features(kernel, 3, 8, KEY, orthogonal=orthogonal) for _ in "ab")
            np.testing.assert_array_equal(a(X), b(X))
            c = random_features(kernel, 3, 8, jax.random.key(6), orthogonal=orthogonal)
            assert np.abs(np.asarray(a(X) - c(X))).max() > 0.01


@pytest.mark.parametrize("dtype", sorted({"float32", FLOAT.name}))
@pytest.mark.parametrize("orthogonal", [False, True])
def test_dtype_is_kept(dtype, orthogonal):
    x = X.astype(dtype)
    for kernel in (RBF(), Matern(1.0, 2.5), *LAYERS):
        features = random_features(kernel, 3, 8, KEY, orthogonal=orthogonal, dtype=dtype)
        assert features(x).dtype == FeatureKernel(features)(x).dtype == dtype
        assert FeatureFunction(features, jnp.ones(8, dtype))(x).dtype == dtype
        assert kernel(x).dtype == dtype


def test_maps_pass_through_jit_vmap_and_grad():
    def value(length, key):
        features = random_features(Laplace(length), 3, 6, key)
        return FeatureKernel(features)(X, Z).sum()

    keys = jax.random.split(KEY, 3)
    together = jax.jit(jax.vmap(value, in_axes=(None, 0)))(1.3, keys)
    assert_close(together, [value(1.3, key) for key in keys], times=30)
    step = 1e-2
    numerical = (value(1.3 + step, KEY) - value(1.3 - step, KEY)) / (2 * step)
    np.testing.assert_allclose(jax.grad(value)(1.3, KEY), numerical, rtol=2e-2)
    layer = random_features(LAYERS[1], 3, 6, KEY)
    assert_close(jax.jit(lambda f, x: f(x))(layer, X), layer(X))
    assert_close(
        jax.jit(lambda f, x: f(x))(FeatureFunction(layer, jnp.ones(6, FLOAT)), X),
        layer(X).sum(1),
        times=10,
    )
    assert FeatureKernel(layer) == FeatureKernel(random_features(LAYERS[1], 3, 6, KEY))


def test_arguments_are_checked():
    rbf = random_features(RBF(), 3, 8, KEY)
    for arguments, error, message in [
        ((RBF(), 3, 7), ValueError, "size: expected an even number, cosines and sines, got 7"),
        ((RBF(), 0, 8), ValueError, "dimension: expected an integer ≥ 1, got 0"),
        ((RBF(), 3, 0), ValueError, "size: expected an integer ≥ 1, got 0"),
        ((RBF(), 3, 8.0), TypeError, "size: expected an integer, got 8.0"),
        (
            (Linear(), 3, 8),
            TypeError,
            "kernel: expected RBF, Laplace, Matern or HiddenLayer, got Linear()",
        ),
    ]:
        with refused(error, message):
            random_features(*arguments, KEY)
    with refused(ValueError, "x: expected shape (n, 3), got (5, 2)"):
        rbf(X[:, :2])
    with refused(
        ValueError,
        "x: expected shape (n, d), got (5,); one-dimensional points are a column, x[:, None]",
    ):
        rbf(X[:, 0])
    with refused(ValueError, "x: 15 of 15 entries are NaN or infinite"):
        rbf(X + np.nan)
    other = "float32" if FLOAT == "float64" else "float64"
    with jax.enable_x64(True):
        told = {
            "float64": "x float64, frequencies float32",
            "float32": "x float32, frequencies float64",
        }
        with refused(TypeError, f"expected one dtype, got {told[other]}"):
            rbf(X.astype(other))
    with refused(TypeError, "features: expected a FeatureMap, got None"):
        FeatureKernel(None)
    with refused(TypeError, "features: expected a FeatureMap, got None"):
        FeatureFunction(None, X)
    with refused(ValueError, "theta: expected shape (8,) or (8, m), got (7,)"):
        FeatureFunction(rbf, jnp.ones(7, FLOAT))(X)
    with refused(ValueError, "theta: expected shape (6,), got (6, 2)"):
        FeatureFunction(FIELDS, jnp.ones((6, 2), FLOAT))(X)
    with refused(ValueError, "theta: expected shape (1,) or (1, m), got ()"):
        FeatureFunction(rbf, jnp.ones((), FLOAT))
    with refused(ValueError, "W_std: expected a finite number ≥ 0, got -1"):
        HiddenLayer(relu, -1.0)
    with refused(ValueError, "b_std: expected a finite number ≥ 0, got -1"):
        HiddenLayer(relu, 1.0, -1.0)
    short = RandomFunctions(lambda p, x: x[:2], ())
    with refused(ValueError, "apply(params, x): expected shape (5, P) or (5, P, m), got (2, 3)"):
        short(X)
    flat = RandomFunctions(lambda p, x: x[:, 0], ())
    with refused(ValueError, "apply(params, x): expected shape (5, P) or (5, P, m), got (5,)"):
        flat(X)
