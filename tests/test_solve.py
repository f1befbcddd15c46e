"""Every method of `solve` reaches the solution of a dense solver, tells how, or says why not."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.linalg
from helpers import once, refused
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process import kernels as gp
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel

from ntklib._tiles import Evaluator
from ntklib.conjugate_gradients import conjugate_gradients
from ntklib.gram import gram
from ntklib.matrix_kernels import Gradient
from ntklib.operators import InMemory, OnDisk, Recomputed
from ntklib.rpcholesky import factor, preconditioner
from ntklib.solve import _choose, solve
from ntklib.stationary import RBF, Laplace

FLOAT = "float64" if jax.config.jax_enable_x64 else "float32"
CLOSE = 1e-6 if FLOAT == "float64" else 2e-3


def data(n: int, m: int | None = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3))
    y = np.stack([np.sin(x[:, 0]) * x[:, 1], np.cos(x).prod(1)], 1) + 0.1 * rng.normal(size=(n, 2))
    return x.astype(FLOAT), (y if m else y[:, 0]).astype(FLOAT)


def reference(x, y, new, ridge: float) -> np.ndarray:
    """scikit-learn, in float64, for RBF(1)."""
    model = KernelRidge(alpha=ridge, kernel="rbf", gamma=0.5)
    return model.fit(x.astype(float), y.astype(float)).predict(new.astype(float))


def error(found, wanted) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


# --- the methods


@pytest.mark.parametrize("m", [None, 2])
@pytest.mark.parametrize("method", ["cholesky", "cg"])
def test_methods_agree_with_scikit_learn(method: str, m) -> None:
    (x, y), (new, _) = data(300, m), data(50, seed=1)
    f = solve(RBF(), x, y, ridge=0.1, method=method)
    assert f.coefficients.shape == y.shape
    assert f.coefficients.dtype == FLOAT
    assert f(new).shape == (50, *y.shape[1:])
    assert f(new).dtype == FLOAT
    assert error(f(new), reference(x, y, new, 0.1)) < CLOSE
    assert f.method == method
    assert f.why.startswith("asked for; n = 300, Gram matrix ")
    assert f.jitter == 0
    assert f.converged
    assert f.residual < (1e-3 if FLOAT == "float32" else 1e-7)


def test_wherever_the_matrix_is_the_solution_is_the_same(tmp_path: Path) -> None:
    (x, y), (new, _) = data(300), data(50, seed=1)
    wanted = reference(x, y, new, 0.1)
    here = solve(RBF(), x, y, ridge=0.1, method="cg")
    disk = solve(RBF(), x, y, ridge=0.1, memory=1e3, out=tmp_path / "gram.zarr")
    again = solve(RBF(), x, y, ridge=0.1, memory=1e3)
    assert [f.method for f in (here, disk, again)] == ["cg"] * 3
    for f, place in ((here, "in memory"), (disk, "on disk"), (again, "computed again")):
        assert f"matrix {place}" in f.why
        assert error(f(new), wanted) < CLOSE
        assert f.iterations == here.iterations


def test_products_of_the_three_places_are_products(tmp_path: Path) -> None:
    x, _ = data(70)
    matrix = np.asarray(RBF()(x)).astype(float)
    evaluate = Evaluator(RBF(), x, None)
    chosen = np.array([5, 69, 0])
    v = np.random.default_rng(0).standard_normal((70, 2))
    disk = gram(RBF(), x, out=tmp_path / "gram.zarr", tile=8, chunk=16)
    for operator in (
        InMemory(gram(RBF(), x)),
        Recomputed(evaluate, x, 8, 24),
        OnDisk(evaluate, x, 8, disk),
    ):
        np.testing.assert_allclose(operator @ v, matrix @ v, rtol=1e-5, atol=1e-5)
        assert (operator @ v).dtype == float
        np.testing.assert_allclose(operator.diagonal(), 1, rtol=1e-6)
        np.testing.assert_allclose(
            operator.columns(chosen), matrix[:, chosen], rtol=1e-5, atol=1e-6
        )


def test_inducing_points_minimise_over_their_span() -> None:
    (x, y), (new, _) = data(400), data(50, seed=1)
    ridge = 0.5
    f = solve(RBF(), x, y, ridge=ridge, method="falkon", rank=60)
    assert f.centres.shape == (60, 3)
    assert f.converged
    assert 0 < f.iterations < 60
    z = f.centres.astype(float)
    cross, core = rbf_kernel(x.astype(float), z, 0.5), rbf_kernel(z, z, 0.5)
    root = scipy.linalg.cholesky(core + 1e-13 * np.eye(60))
    stacked = np.concatenate([cross, np.sqrt(ridge) * root])
    right = np.concatenate([y.astype(float), np.zeros((60, 2))])
    beta = np.linalg.lstsq(stacked, right, rcond=None)[0]
    wanted = rbf_kernel(new.astype(float), z, 0.5) @ beta
    assert error(f(new), wanted) < 10 * CLOSE


def test_all_points_as_inducing_points_are_ridge_regression() -> None:
    (x, y), (new, _) = data(100), data(50, seed=1)
    f = solve(Laplace(), x, y, ridge=0.5, method="falkon", rank=100)
    g = solve(Laplace(), x, y, ridge=0.5, method="cholesky")
    assert error(f(new), g(new)) < 10 * CLOSE


@pytest.mark.parametrize("method", ["cholesky", "cg", "falkon"])
def test_a_path_of_ridges(method: str) -> None:
    (x, y), (new, _) = data(200), data(30, seed=1)
    ridges = [0.1, 10.0, 1.0]
    path = solve(RBF(), x, y, ridge=ridges, method=method, rank=100)
    assert [f.ridge for f in path] == ridges
    for f in path:
        alone = solve(RBF(), x, y, ridge=f.ridge, method=method, rank=100)
        assert error(f(new), alone(new)) < 10 * CLOSE
    if method == "cg":
        fresh = sum(solve(RBF(), x, y, ridge=r, method="cg", rank=10).iterations for r in ridges)
        warm = sum(f.iterations for f in solve(RBF(), x, y, ridge=ridges, method="cg", rank=10))
        assert warm < fresh + len(ridges)


def test_matrix_valued_kernels() -> None:
    x, _ = data(40)
    kernel = Gradient(RBF())
    values = np.random.default_rng(0).standard_normal((40, kernel(x).shape[-1])).astype(FLOAT)
    f = solve(kernel, x, values, ridge=0.1)
    assert f.method == "cholesky"
    k = np.asarray(kernel(x), dtype=float).transpose(0, 2, 1, 3).reshape(values.size, -1)
    alpha = np.linalg.solve(k + 0.1 * np.eye(values.size), values.ravel())
    assert error(f.coefficients, alpha.reshape(values.shape)) < CLOSE
    assert error(f(x), (k @ alpha).reshape(values.shape)) < CLOSE
    with refused(ValueError, "method: a matrix-valued kernel takes \"cholesky\", got 'cg'"):
        solve(kernel, x, values, ridge=0.1, method="cg")


def test_variance_is_that_of_a_gaussian_process() -> None:
    (x, y), (new, _) = data(60, None), data(20, seed=1)
    f = solve(RBF(), x, y, ridge=0.3)
    process = GaussianProcessRegressor(gp.RBF(1.0), alpha=0.3, optimizer=None)
    _, deviation = process.fit(x.astype(float), y.astype(float)).predict(new, return_std=True)
    np.testing.assert_allclose(f.variance(new), deviation**2, rtol=100 * CLOSE, atol=CLOSE)
    other = solve(RBF(), x, y, ridge=0.3, method="cg")
    with pytest.raises(ValueError, match="variance: expected a solution by Cholesky's method"):
        other.variance(new)


def test_the_choice_is_told() -> None:
    x, y = data(50)
    needed = x.itemsize * 50**2
    f = solve(RBF(), x, y, ridge=1.0, memory=needed)
    size = f"{needed / 2**30:.3g} GiB"
    assert f.why == f"n = 50, Gram matrix {size} of {size}: fits, and n³/3 operations are few"
    assert solve(RBF(), x, y, ridge=1.0, memory=needed - 1).method == "cg"


def test_larger_problems_take_other_methods() -> None:
    for n, fits, disk, wanted in (
        (10_000, True, False, ("cholesky", "memory")),
        (10_001, True, True, ("cg", "memory")),
        (9_000, False, True, ("cg", "disk")),
        (50_000, False, False, ("cg", "again")),
        (50_001, False, False, ("falkon", "again")),
        (50_001, False, True, ("cg", "disk")),
    ):
        method, _, place = _choose("auto", n, 2.0, 2.0 if fits else 1.0, disk, ())
        assert (method, place) == wanted


# --- precision


def test_a_ridge_below_rounding_is_raised_and_told() -> None:
    x, y = data(200)
    f = solve(RBF(3.0), x, y, ridge=0.0)
    level = 4 * np.finfo(FLOAT).eps * np.sqrt(200)
    assert f.jitter == pytest.approx(level, rel=1e-6)
    assert f.ridge == 0
    # It scales with the kernel.
    assert solve(RBF(3.0) * 100.0, x, y, ridge=0.0).jitter == pytest.approx(100 * level, rel=1e-5)
    assert solve(RBF(3.0), x, y, ridge=level / 2).jitter == pytest.approx(level / 2, rel=1e-6)
    assert solve(RBF(3.0), x, y, ridge=1.0).jitter == 0
    assert solve(RBF(3.0), x, y, ridge=1.0, jitter=1e-3).jitter == pytest.approx(1e-3)


@pytest.mark.parametrize("method", ["cholesky", "cg"])
def test_what_is_no_kernel_is_refused_with_its_smallest_eigenvalue(method: str) -> None:
    x, y = data(60)

    def kernel(a, b=None):
        b = a if b is None else b
        return 1.0 + ((a[:, None] - b[None]) ** 2).sum(-1)

    smallest = np.linalg.eigvalsh(np.asarray(kernel(x.astype(float))))[0]
    with pytest.raises(np.linalg.LinAlgError) as raised:
        solve(kernel, x, y, ridge=1e-3, method=method)
    told = str(raised.value)
    assert "Likely causes: a function that is no kernel" in told or "pivot" in told
    if method == "cholesky":
        assert f"smallest eigenvalue of k(x, x) {smallest:.1e}" in told


def test_equal_points_without_ridge_or_jitter_are_refused() -> None:
    x, y = data(30)
    x[5:] = x[5]
    with pytest.raises(np.linalg.LinAlgError, match="equal points with too small a ridge"):
        solve(RBF(), x, y, ridge=0.0, jitter=0.0)


def test_what_does_not_converge_says_so() -> None:
    x, y = data(200)
    f = solve(RBF(), x, y, ridge=1e-3, method="cg", rank=1, iterations=3)
    assert not f.converged
    assert f.iterations == 3
    assert f.residual > 1e-3
    alpha = f.coefficients.astype(float)
    k = rbf_kernel(x.astype(float), gamma=0.5) + (1e-3 + f.jitter) * np.eye(200)
    true = np.linalg.norm(y - k @ alpha, axis=0) / np.linalg.norm(y, axis=0)
    assert f.residual == pytest.approx(true.max(), rel=1e-2)


# --- the parts


def test_conjugate_gradients_end_after_as_many_steps_as_there_are_eigenvalues() -> None:
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((40, 40)))
    a = (q * np.repeat([1.0, 2.0, 5.0, 9.0], 10)) @ q.T
    b = rng.standard_normal((40, 3))
    b[:, 1] = 0.0
    found = conjugate_gradients(lambda v: a @ v, lambda v: v, b, tolerance=1e-12, iterations=50)
    assert found.converged
    assert len(found.residuals) - 1 == 4
    np.testing.assert_allclose(found.solution, np.linalg.solve(a, b), atol=1e-11)
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        conjugate_gradients(lambda v: -v, lambda v: v, b, tolerance=1e-12, iterations=50)


def test_pivoted_cholesky_explains_a_matrix_of_low_rank() -> None:
    rng = np.random.default_rng(0)
    half = rng.standard_normal((90, 12))
    low = factor(InMemory(half @ half.T), 50, rng, size=5)
    assert len(set(low.pivots)) == len(low.pivots) == 12
    np.testing.assert_allclose(low.columns @ low.columns.T, half @ half.T, atol=1e-9)
    assert low.rest < 1e-9
    v = rng.standard_normal((90, 2))
    exact = np.linalg.solve(half @ half.T + 0.3 * np.eye(90), v)
    np.testing.assert_allclose(preconditioner(low, 0.3)(v), exact, atol=1e-10)


def test_the_rest_bounds_the_condition_number() -> None:
    x, _ = data(150)
    matrix = np.asarray(RBF()(x)).astype(float)
    for rank in (5, 20, 60):
        low = factor(InMemory(matrix), rank, np.random.default_rng(1), size=4)
        assert len(low.pivots) == rank
        assert low.rest == pytest.approx(np.trace(matrix) - (low.columns**2).sum(), rel=1e-6)
        near = low.columns @ low.columns.T + 0.1 * np.eye(150)
        spectrum = scipy.linalg.eigvalsh(matrix + 0.1 * np.eye(150), near)
        assert spectrum[0] > 1 - 1e-5
        assert spectrum[-1] < 1 + low.rest / 0.1


def test_pivots_are_drawn_with_the_law_of_one_after_the_other() -> None:
    """First pivot ∝ diagonal; second ∝ what the first leaves; in blocks as one by one."""
    matrix = np.array([[4.0, 1.0, 0.0], [1.0, 1.0, 0.5], [0.0, 0.5, 3.0]])
    law = np.zeros((3, 3))
    for i in range(3):
        left = matrix.diagonal() - matrix[i] ** 2 / matrix[i, i]
        law[i] = matrix[i, i] / 8 * left / left.sum()
    rng, drawn = np.random.default_rng(0), np.zeros((3, 3))
    for _ in range(800):
        i, j = factor(InMemory(matrix), 2, rng, size=3).pivots
        drawn[i, j] += 1 / 800
    np.testing.assert_allclose(drawn, law, atol=4 * np.sqrt(0.25 / 800))


# --- interruption

KILLED = """
import os, signal, sys
import numpy as np
from ntklib import operators
from ntklib.solve import _choose, solve
from ntklib.stationary import RBF

path, after = sys.argv[1], int(sys.argv[2])
data = np.load(path + ".npz")
count, times = 0, operators.InMemory.__matmul__
def counted(self, v):
    global count
    count += 1
    if count == after:
        os.kill(os.getpid(), signal.SIGKILL)
    return times(self, v)
operators.InMemory.__matmul__ = counted
f = solve(RBF(), data["x"], data["y"], ridge=1e-2, method="cg", rank=5, checkpoint=path)
print(count, f.iterations)
np.save(path + ".npy", f.coefficients)
"""


@once
def test_killed_iterations_go_on_to_the_same_bits(tmp_path: Path) -> None:
    x, y = data(150)
    path = str(tmp_path / "state")
    np.savez(path + ".npz", x=x, y=y)
    command = [sys.executable, "-c", KILLED, path]
    assert subprocess.run([*command, "25"], capture_output=True).returncode == -9
    done = subprocess.run([*command, "0"], capture_output=True, text=True, check=True)
    count, iterations = map(int, done.stdout.split())
    whole = solve(RBF(), x, y, ridge=1e-2, method="cg", rank=5)
    assert iterations == whole.iterations
    assert count == iterations - 20 + 1  # saved after 20 of them; one product for the residual
    np.testing.assert_array_equal(np.load(path + ".npy"), whole.coefficients)
    with pytest.raises(ValueError, match="the checkpoint of another computation"):
        solve(RBF(), x + 1, y, ridge=1e-2, method="cg", rank=5, checkpoint=path)


def test_progress_is_told_if_asked(capsys) -> None:
    x, y = data(60)
    solve(RBF(), x, y, ridge=0.1, method="cg")
    assert capsys.readouterr() == ("", "")
    solve(RBF(), x, y, ridge=0.1, method="cg", progress=True)
    told = capsys.readouterr()
    assert told.out == ""
    for word in ("gram", "pivots", "conjugate gradients"):
        assert word in told.err


# --- refusals


def test_bad_arguments_are_refused() -> None:
    x, y = data(10)
    with refused(ValueError, "y: expected shape (10,) or (10, m), got (9, 2)"):
        solve(RBF(), x, y[:9], ridge=1.0)
    with refused(ValueError, "ridge: expected a finite number ≥ 0, got -1"):
        solve(RBF(), x, y, ridge=-1.0)
    with refused(ValueError, "ridge: expected at least one number"):
        solve(RBF(), x, y, ridge=[])
    with refused(ValueError, "method: expected one of auto, cholesky, cg, falkon, got 'lu'"):
        solve(RBF(), x, y, ridge=1.0, method="lu")
    with refused(ValueError, "ridge: Falkon's equations need a ridge > 0, got 0"):
        solve(RBF(), x, y, ridge=0.0, method="falkon")
    with refused(ValueError, "ridge: conjugate gradients need ridge + jitter > 0, got 0"):
        solve(RBF(), x, y, ridge=0.0, jitter=0.0, method="cg")
    f = solve(RBF(), x, y, ridge=1.0)
    with refused(ValueError, "x: expected shape (n, 3), got (10, 2)"):
        f(x[:, :2])
