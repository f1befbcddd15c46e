"""Ridge regression in feature space against kernel ridge, scikit-learn and plain NumPy."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, refused
from scipy import optimize
from sklearn.linear_model import Ridge

from ntklib.dual_activations import relu
from ntklib.feature_ridge import Moments, RidgePath, effective_ridge, in_tiles, moments
from ntklib.random_features import (
    FeatureKernel,
    HiddenLayer,
    RandomFunctions,
    random_features,
)
from ntklib.rkhs import ridge
from ntklib.stationary import RBF

FLOAT = jnp.result_type(float)
KEY = jax.random.key(5)
rng = np.random.default_rng(3)
X = rng.normal(size=(53, 3)).astype(FLOAT)
Z = rng.normal(size=(7, 3)).astype(FLOAT)
Y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2]
Y2 = np.stack([Y, np.cos(X[:, 1])], axis=1)
FOURIER = random_features(RBF(2.0), 3, 20, KEY)
RELU = random_features(HiddenLayer(relu, 1.4, 0.5), 3, 20, KEY)
# float32 is held against the float64 result, which an ill-conditioned problem separates from it.
LOOSE = 1e3


def assert_same(a: Moments, b: Moments, times: float = 1.0) -> None:
    assert int(a.count) == int(b.count)
    for name in ("gram", "cross", "square"):
        assert getattr(a, name).dtype == np.float64
        assert_close(getattr(a, name), getattr(b, name), times=times)


@pytest.mark.parametrize("features", [FOURIER, RELU], ids=["fourier", "relu"])
@pytest.mark.parametrize("y", [Y, Y2], ids=["one", "two"])
def test_the_moments_are_the_sums(features, y):
    phi = np.asarray(features(X), np.float64)
    found = moments(features, in_tiles(X, y, 10))
    exact = Moments(53, phi.T @ phi, phi.T @ np.float64(y), (np.float64(y) ** 2).sum(0), None, None)
    assert_same(found, exact)


@pytest.mark.parametrize("rows", [1, 7, 53, 100])
def test_the_tiles_do_not_matter(rows):
    # float32 features of a point may differ in their last bit between batches of two sizes.
    found, expected = (moments(FOURIER, in_tiles(X, Y, size)) for size in (rows, 10))
    assert_same(found, expected, times=1e6 if FLOAT == "float32" else 1)


def test_tiles_are_views():
    tiles = in_tiles(X, Y, 10)
    assert [len(x) for x, _ in tiles] == [10] * 5 + [3]
    assert all(np.shares_memory(x, X) and np.shares_memory(y, Y) for x, y in tiles)
    np.testing.assert_array_equal(np.concatenate([x for x, _ in tiles]), X)
    assert len(in_tiles(np.ones((4097, 1), FLOAT), np.ones(4097, FLOAT))) == 3


def test_shards_merge_to_one_pass():
    data = in_tiles(X, Y2, 6)
    for cut in (1, 4, 8):
        merged = moments(FOURIER, data[:cut]) + moments(FOURIER, data[cut:])
        assert_same(merged, moments(FOURIER, data))


@pytest.mark.parametrize("features", [FOURIER, RELU], ids=["fourier", "relu"])
@pytest.mark.parametrize("y", [Y, Y2], ids=["one", "two"])
def test_it_is_kernel_ridge_with_the_sampled_kernel(features, y):
    path = RidgePath(features, moments(features, in_tiles(X, y, 10)))
    for penalty in (0.1, 3.0):
        expected = ridge(FeatureKernel(features), X, y, penalty)(Z)
        assert_close(path(penalty)(Z), expected, times=LOOSE)


def test_it_is_scikit_learns_ridge():
    phi = np.asarray(RELU(X), np.float64)
    path = RidgePath(RELU, moments(RELU, in_tiles(X, Y2, 10)))
    for penalty in (0.1, 3.0):
        peer = Ridge(alpha=penalty, fit_intercept=False).fit(phi, Y2)
        assert_close(path(penalty).theta, peer.coef_.T, times=LOOSE)


def test_functions_with_several_outputs_share_their_weights():
    weights = rng.normal(size=(2, 3, 20)).astype(FLOAT)
    fields = RandomFunctions(lambda w, x: jnp.einsum("nd,adp->npa", jnp.sin(x), w), weights)
    path = RidgePath(fields, moments(fields, in_tiles(X, Y2, 10)))
    expected = ridge(FeatureKernel(fields), X, Y2, 0.5)(Z)
    assert expected.shape == (7, 2)
    assert_close(path(0.5)(Z), expected, times=LOOSE)
    residual = np.asarray(path(0.5)(X), np.float64) - Y2
    assert_close(FLOAT.type(path.training_error(0.5)), (residual**2).sum() / 53, times=100)


def test_training_error_and_effective_dimension():
    path = RidgePath(FOURIER, moments(FOURIER, in_tiles(X, Y2, 10)))
    residual = np.asarray(path(0.3)(X), np.float64) - Y2
    assert_close(
        FLOAT.type(1) * path.training_error(0.3).astype(FLOAT), (residual**2).mean(0), times=100
    )
    gram = np.asarray(FeatureKernel(FOURIER)(X), np.float64)
    trace = np.trace(np.linalg.solve(gram + 0.3 * np.eye(53), gram))
    assert_close(FLOAT.type(path.effective_dimension(0.3)), trace, times=10)


@pytest.mark.parametrize("dtype", sorted({"float32", FLOAT.name}))
def test_the_function_has_the_dtype_of_the_data(dtype):
    features = random_features(RBF(2.0), 3, 20, KEY, dtype=dtype)
    path = RidgePath(features, moments(features, in_tiles(X.astype(dtype), Y.astype(dtype))))
    assert path(0.1)(Z.astype(dtype)).dtype == dtype
    assert path.eigenvalues.dtype == np.float64


def test_float32_features_lose_nothing_in_the_sums():
    x = rng.normal(size=(20_000, 3)).astype("float32")
    features = random_features(RBF(3.0), 3, 32, KEY, dtype="float32")
    phi = np.asarray(features(x))
    exact = phi.astype("longdouble").T @ phi.astype("longdouble")
    found = moments(features, in_tiles(x, x[:, 0])).gram
    scale = np.abs(exact).max()
    assert np.abs(found - exact).max() < 1e-14 * scale
    # The same sums in float32 do not pass.
    assert np.abs(phi.T @ phi - exact).max() > 1e-8 * scale


class Interrupted:
    """Tiles that fail, once, at the k-th; they note which ones were asked for."""

    def __init__(self, tiles, k):
        self.tiles, self.k, self.asked = tiles, k, []

    def __len__(self):
        return len(self.tiles)

    def __getitem__(self, i):
        self.asked.append(i)
        if i == self.k:
            self.k = None
            raise KeyboardInterrupt
        return self.tiles[i]


@pytest.mark.parametrize(("every", "again"), [(1, 5), (2, 4), (4, 4), (16, 0)])
def test_an_interrupted_pass_goes_on(tmp_path, every, again):
    data = Interrupted(in_tiles(X, Y, 6), 5)
    file = tmp_path / "sums.npz"
    with pytest.raises(KeyboardInterrupt):
        moments(FOURIER, data, checkpoint=file, save_every=every)
    data.asked.clear()
    found = moments(FOURIER, data, checkpoint=file, save_every=every)
    assert data.asked == [0, 8, *range(again, 9)]
    whole = moments(FOURIER, in_tiles(X, Y, 6))
    for name in ("count", "gram", "cross", "square"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    # A finished pass is not run again.
    data.asked.clear()
    np.testing.assert_array_equal(moments(FOURIER, data, checkpoint=file).gram, whole.gram)
    assert data.asked == [0, 8]


KILLED = """
import os, signal, sys
import jax, numpy as np
from ntklib.feature_ridge import in_tiles, moments
from ntklib.random_features import random_features
from ntklib.stationary import RBF

class Data(list):
    def __getitem__(self, i):
        if i == 5 and sys.argv[2] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(i)

x = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
features = random_features(RBF(2.0), 3, 20, jax.random.key(5), dtype="float32")
data = Data(in_tiles(x, x[:, 0], 6))
found = moments(features, data, progress=True, checkpoint=sys.argv[1], save_every=1)
assert np.array_equal(found.gram, moments(features, list(data)).gram) and found.count == 60
"""


def test_a_killed_pass_goes_on(tmp_path):
    file = tmp_path / "sums.npz"
    run = [sys.executable, "-c", KILLED, str(file)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    options = {"capture_output": True, "text": True, "env": environment, "timeout": 300}
    killed = subprocess.run([*run, "kill"], check=False, **options)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert file.exists()
    done = subprocess.run([*run, "go on"], check=False, **options)
    assert done.returncode == 0, done.stderr
    # Five of the ten tiles were there already.
    assert "0/10" not in done.stderr.split("5/10")[0]
    assert "10/10" in done.stderr


def test_a_checkpoint_of_another_pass_is_refused(tmp_path):
    file = tmp_path / "sums.npz"
    moments(FOURIER, in_tiles(X, Y, 6), checkpoint=file)
    for features, data in [
        (RELU, in_tiles(X, Y, 6)),
        (FOURIER, in_tiles(X, Y, 7)),
        (FOURIER, in_tiles(X[::-1], Y, 6)),
        (FOURIER, in_tiles(X, np.append(Y[:-1], FLOAT.type(0)), 6)),
    ]:
        with pytest.raises(ValueError, match="the checkpoint of another computation"):
            moments(features, data, checkpoint=file)


def test_progress_is_told_on_stderr_only_when_asked(capfd):
    moments(FOURIER, in_tiles(X, Y, 6))
    assert capfd.readouterr() == ("", "")
    moments(FOURIER, in_tiles(X, Y, 6), progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "moments" in err
    assert "9/9" in err


def test_moments_are_stored_and_read(tmp_path):
    found = moments(FOURIER, in_tiles(X, Y2, 6))
    found.save(tmp_path / "shard.npz")
    read = Moments.load(tmp_path / "shard.npz")
    assert_same(read + found, found + found)
    np.testing.assert_array_equal(
        RidgePath(FOURIER, read)(0.1)(Z), RidgePath(FOURIER, found)(0.1)(Z)
    )
    with pytest.raises(FileNotFoundError, match=r"other\.npz: no such file"):
        Moments.load(tmp_path / "other.npz")
    Path(tmp_path / "damaged.npz").write_bytes(b"no")
    with pytest.raises(ValueError, match="not a checkpoint, or a damaged one"):
        Moments.load(tmp_path / "damaged.npz")


def test_moments_of_other_features_are_refused():
    found = moments(FOURIER, in_tiles(X, Y, 6))
    other = moments(random_features(RBF(2.0), 3, 20, jax.random.key(6)), in_tiles(X, Y, 6))
    with refused(ValueError, "other: expected moments of the same feature map"):
        found + other
    with refused(ValueError, "other: expected Σ φyᵀ of shape (20,), got (20, 2)"):
        found + moments(FOURIER, in_tiles(X, Y2, 6))
    with refused(ValueError, "of: expected moments of the same feature map"):
        RidgePath(RELU, found)


@pytest.mark.parametrize("size", [1, 30, 59, 60, 61, 300])
@pytest.mark.parametrize("penalty", [0.0, 1e-3, 1.0])
def test_the_effective_ridge_is_the_largest_fixed_point(size, penalty):
    sigma = np.geomspace(1e-3, 30, 60).astype(FLOAT)

    def excess(r):
        return r - penalty - r / size * (sigma.astype(float) / (sigma + r)).sum()

    top = penalty + float(sigma.sum()) / size
    grid = np.geomspace(1e-12, top, 4000)
    below = grid[[excess(r) < 0 for r in grid]]
    expected = optimize.brentq(excess, below.max(), 1.01 * top, xtol=1e-16) if len(below) else 0.0
    found = effective_ridge(sigma, penalty, size)
    assert found.dtype == FLOAT
    assert found >= penalty
    # At λ = 0 and P = N the root is double, and is found to √eps.
    assert_close(found, expected, times=100 if (penalty, size) != (0.0, 60) else 1e4)


def test_the_effective_ridge_passes_through_jit_vmap_and_grad():
    sigma = np.geomspace(1e-3, 30, 60).astype(FLOAT)
    sizes = jnp.array([20.0, 200.0], FLOAT)
    many = jax.jit(jax.vmap(lambda size: effective_ridge(sigma, 0.1, size)))(sizes)
    assert_close(many, [effective_ridge(sigma, 0.1, size) for size in (20, 200)], times=10)
    slope = jax.jacfwd(lambda p: effective_ridge(sigma, p, 20))(0.1)
    r = many[0]
    # Differentiate r = λ + (r/P) Σ σ/(σ + r).
    assert_close(slope, 1 / (1 - ((sigma / (sigma + r)) ** 2).sum() / 20), times=100)


def test_arguments_are_checked():
    data = in_tiles(X, Y, 10)
    spoiled = np.where(np.arange(53)[:, None] == 25, np.nan, X).astype(FLOAT)
    huge = RandomFunctions(lambda p, x: jnp.sqrt(-jnp.abs(x)), ())
    for arguments, error, message in [
        ((None, data), TypeError, "features: expected a FeatureMap, got None"),
        ((FOURIER, []), ValueError, "data: expected at least one tile, got none"),
        (
            (FOURIER, in_tiles(spoiled, Y, 10)),
            ValueError,
            "data[2] x: 3 of 30 entries are NaN or infinite",
        ),
        (
            (FOURIER, [(X, Y[:5])]),
            ValueError,
            "data[0] y: expected shape (53,) or (53, m), got (5,)",
        ),
        (
            (FOURIER, [*data, (X, X[:, 0] * np.nan)]),
            ValueError,
            "data[6] y: 53 of 53 entries are NaN or infinite",
        ),
        ((huge, data), ValueError, "features(data[0] x): 30 of 30 entries are NaN or infinite"),
    ]:
        with refused(error, message):
            moments(*arguments)
    with refused(ValueError, "save_every: expected an integer ≥ 1, got 0"):
        moments(FOURIER, data, save_every=0)
    with refused(ValueError, "y: expected one value for each point, got (53, 3) and (5,)"):
        in_tiles(X, Y[:5])
    path = RidgePath(FOURIER, moments(FOURIER, data))
    for penalty in (0.0, -1.0, 1e-15):
        with pytest.raises(
            ValueError, match="^penalty: expected more than the rounding of Σ φφᵀ, .*, got"
        ):
            path(penalty)
    with refused(TypeError, "penalty: expected a real number, got None"):
        path(None)
    for arguments, message in [
        ((X, 0.1, 3), "eigenvalues: expected shape (0,) or (0, m), got (53, 3)"),
        ((X[:, 0], -0.1, 3), "penalty: expected a finite number ≥ 0, got -0.1"),
        ((X[:, 0], 0.1, 0), "size: expected a finite number ≥ 1, got 0"),
    ]:
        with refused(ValueError, message):
            effective_ridge(*arguments)
