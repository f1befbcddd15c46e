"""Predictions beside neural-tangents' numbers, scikit-learn's process and formulas by hand."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, refused
from scipy.integrate import solve_ivp
from sklearn.gaussian_process import GaussianProcessRegressor, kernels

import ntklib.integration
from ntklib.costs import Cost, logistic, mean_square
from ntklib.filters import flow, gradient_flow, ridge_filter
from ntklib.kernel_gradient import largest_stable_rate
from ntklib.kernels import FromFunction
from ntklib.predict import ensemble, integrate, posterior
from ntklib.rkhs import RBF, Tensor, interpolate
from ntklib.tangent import linearize, tangent_kernel, taylor

FLOAT = jnp.result_type(float)
EPS = float(np.finfo(FLOAT).eps)
REFERENCE = Path(__file__).with_name("reference") / "predict_cases"
ARRAYS = dict(np.load(REFERENCE.with_suffix(".npz")))
CASES = json.loads(REFERENCE.with_suffix(".json").read_text())["cases"]
TIMES = ["0.0", "0.5", "10.0", "1000.0", "100000.0", "None"]

rng = np.random.default_rng(6)
i, j = np.arange(8.0)[:, None], np.arange(5.0)[None]
XTR = np.sin(1.3 * i + 0.7 * j + 0.3 * i * j).astype(FLOAT)
XTE = np.cos(0.9 * i + 1.1 * j + 0.2 * i * j)[:4].astype(FLOAT)
Y = np.cos(i + 0.5 * j)[:, :2].astype(FLOAT)
F0 = (0.3 * np.sin(0.4 * i + 0.9 * j))[:, :2].astype(FLOAT)
F0_TEST = (0.3 * np.cos(0.5 * i + 0.8 * j))[:4, :2].astype(FLOAT)
N, M = Y.shape
TRAIN = np.arange(8.0, dtype=FLOAT)[:, None]
TEST = np.arange(8.0, 12.0, dtype=FLOAT)[:, None]


def conforms(case, name, actual, scale=0.0):
    """Within the tolerance suggested for the case, or the rounding of float32.

    A tolerance is of the largest entry, or of the scale that differences are taken at.
    """
    wanted = ARRAYS[f"{case}/{name}"]
    tolerance = max(CASES[case]["suggested_tol"][f"{case}/{name}"], 100 * EPS)
    assert np.asarray(actual).shape == wanted.shape
    apart = np.abs(np.asarray(actual) - wanted).max()
    assert apart <= tolerance * max(np.abs(wanted).max(), scale)


def stored(kind, regularizer=0.0):
    """A stored Gram matrix as a kernel of points that are the numbers of its rows.

    neural-tangents adds a multiple of the mean of the diagonal at the data.
    """
    part = {s: ARRAYS[f"pred_kernels/{kind}_{s}"].astype(FLOAT) for s in ("dd", "td", "tt")}
    gram = np.block([[part["dd"], part["td"].T], [part["td"], part["tt"]]])
    gram[range(N), range(N)] += regularizer * np.diag(part["dd"]).mean()
    whole = jnp.asarray(gram)
    return FromFunction(lambda a, b: whole[a[:, 0].astype(int)][:, b[:, 0].astype(int)])


def book_time(t):
    """These flows divide by N·m, the book by N."""
    return float(t) / M


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("case", ["gdmse_reg0_lr1.0", "gdmse_reg1e-3_lr1.0"])
def test_the_closed_flow_conforms(case, time):
    ntk = stored("ntk", CASES[case]["diag_reg"])
    trained = time == "None"
    f = interpolate(ntk, TRAIN, Y - F0) if trained else flow(ntk, TRAIN, Y - F0, book_time(time))
    conforms(case, f"train_t{time}", F0 + f(TRAIN))
    conforms(case, f"test_t{time}", F0_TEST + f(TEST))


@pytest.mark.parametrize("time", TIMES)
def test_the_ensemble_conforms(time):
    case = "gdmse_ensemble_ntk_reg0"
    filter = None if time == "None" else gradient_flow(book_time(time))
    law = ensemble(stored("nngp"), stored("ntk"), TRAIN, Y, filter)
    start = np.abs(ARRAYS["pred_kernels/nngp_dd"]).max()
    for name, points in (("", TEST), ("train", TRAIN)):
        conforms(case, f"{name}mean_t{time}", law.mean(points))
        # At the data the variance ends at 0, as a difference of numbers of the size of Σ.
        conforms(case, f"{name}cov_t{time}", law.covariance(points), scale=start)


@pytest.mark.parametrize("get", ["nngp", "ntk", "ntkgp"])
def test_gp_inference_conforms(get):
    case = "gp_inference_reg1e-3"
    kind = "nngp" if get == "nngp" else "ntk"
    noise = 1e-3 * float(np.diag(ARRAYS[f"pred_kernels/{kind}_dd"]).mean())
    law = (
        ensemble(stored("nngp"), stored("ntk"), TRAIN, Y, ridge_filter(noise / N))
        if get == "ntk"
        else posterior(stored(kind), TRAIN, Y, noise)
    )
    conforms(case, f"{get}_mean", law.mean(TEST))
    conforms(case, f"{get}_cov", law.covariance(TEST))


def test_the_integrated_flow_conforms():
    case, times = "gd_ode_mse_momNone", CASES["gd_ode_mse_momNone"]["times"]
    rate = CASES[case]["learning_rate"]
    when = np.array([rate * book_time(t) for t in times], FLOAT)
    path = integrate(stored("ntk"), mean_square(Y), TRAIN, F0, when)
    for i, t in enumerate(times):
        conforms(case, f"train_t{t}", path.values[i])
        conforms(case, f"test_t{t}", F0_TEST + path.change(i)(TEST))


def test_the_largest_stable_rate_conforms():
    rate = largest_stable_rate(stored("ntk"), TRAIN)
    conforms("max_learning_rate", "lr", [M * rate * (1 + momentum) for momentum in (0.0, 0.9)])


def test_the_tangent_kernel_of_a_finite_network_conforms():
    case, widths = "empirical_relu", [5, 12, 9, 2]

    def weight(layer):
        a = np.arange(widths[layer])[:, None]
        b = np.arange(widths[layer + 1])[None]
        w = np.sqrt(2) * np.sin(1.7 * a + 2.3 * b + 0.9 * a * b + layer)
        return w.astype(FLOAT), np.cos(1.1 * b + 0.5 * layer).astype(FLOAT)

    def apply(params, x):
        for layer, (w, b) in enumerate(params):
            x = 1.4 / len(w) ** 0.5 * x @ w + 0.1 * jnp.broadcast_to(b, (len(x), b.shape[1]))
            x = jnp.maximum(x, 0) if layer < 2 else x
        return x

    params = [weight(layer) for layer in range(3)]
    moved = [
        tuple(p + 0.05 * np.cos(np.arange(p.size)).reshape(p.shape).astype(FLOAT) for p in layer)
        for layer in params
    ]
    v = np.cos(0.7 * np.arange(4)[:, None] + 0.3 * np.arange(2)[None]).astype(FLOAT)
    full = tangent_kernel(apply, params)
    out, out_test = apply(params, XTR), apply(params, XTE)
    conforms(case, "out_train", out)
    conforms(case, "ntk_full", full(XTR, XTE))
    conforms(case, "ntk_trace", tangent_kernel(apply, params, outputs="trace")(XTR, XTE))
    conforms(case, "ntk_diag", tangent_kernel(apply, params, outputs="diagonal")(XTR, XTE))
    conforms(case, "nngp_full", jnp.einsum("ia,jb->ijab", out, out_test))
    conforms(case, "vp", full.matvec(v, XTR, XTE))
    conforms(case, "lin", linearize(apply, params)(moved, XTR))
    conforms(case, "taylor2", taylor(apply, params, 2)(moved, XTR))
    conforms(case, "f_at_p2", apply(moved, XTR))


KERNEL = RBF(1.0)
INTEGRATED = (
    2e4 if jnp.finfo(FLOAT).bits == 64 else 10
)  # the tolerance of the integrator, not rounding
WHEN = np.array([0.0, 0.5, 4.0], FLOAT)


def test_the_posterior_is_that_of_scikit_learn():
    process = GaussianProcessRegressor(kernels.RBF(1.0), alpha=0.1, optimizer=None)
    process.fit(XTR.astype(float), Y.astype(float))
    mean, covariance = process.predict(XTE.astype(float), return_cov=True)
    law = posterior(KERNEL, XTR, Y, 0.1)
    assert_close(law.mean(XTE), mean, times=10)
    assert_close(law.covariance(XTE), covariance[:, :, 0], times=10)
    assert_close(law.covariance(XTE, XTE[:2]), covariance[:, :2, 0], times=10)


def test_training_to_the_end_with_the_prior_as_kernel_is_the_posterior_without_noise():
    """The formula of Lee et al. with Θ = Σ is Σ − Σ(·, X) Σ⁻¹ Σ(X, ·)."""
    law = ensemble(KERNEL, KERNEL, XTR, Y)
    inverse = np.linalg.inv(np.asarray(KERNEL(XTR), float))
    across = np.asarray(KERNEL(XTE, XTR), float)
    assert_close(law.covariance(XTE), KERNEL(XTE) - across @ inverse @ across.T, times=100)
    assert_close(law.mean(XTE), across @ inverse @ Y, times=100)


def test_the_law_is_symmetric_to_the_last_bit():
    covariance = np.asarray(ensemble(KERNEL, RBF(2.0), XTR, Y).covariance(XTE))
    np.testing.assert_array_equal(covariance, covariance.T)


def test_the_integrated_mean_square_flow_is_the_closed_one():
    path = integrate(KERNEL, mean_square(Y), XTR, lambda x: jnp.sin(x[:, :2]), WHEN)
    start = np.sin(XTR[:, :2])
    for i, t in enumerate(WHEN):
        closed = flow(KERNEL, XTR, Y - start, t)
        assert_close(path.change(i)(XTE), closed(XTE), times=INTEGRATED)
    assert_close(path.costs, [((v - Y) ** 2).sum() / (2 * N) for v in path.values])


def test_the_flow_of_a_matrix_valued_kernel():
    coupled = Tensor(KERNEL, np.array([[1.0, 0.3], [0.3, 0.5]], FLOAT))
    path = integrate(coupled, mean_square(Y), XTR, F0, WHEN)
    closed = flow(coupled, XTR, Y - F0, 4.0)
    assert_close(path.change(2)(XTE), closed(XTE), times=INTEGRATED)


def test_the_flow_of_the_logistic_cost_is_that_of_scipy():
    signs = np.sign(Y[:, 0])
    gram = np.asarray(KERNEL(XTR), float)

    def change(t, u):
        return gram @ (signs / (1 + np.exp(signs * u))) / N

    known = solve_ivp(change, (0, 4), np.zeros(N), "DOP853", WHEN, rtol=1e-11, atol=1e-11)
    path = integrate(KERNEL, logistic(signs), XTR, np.zeros(N, FLOAT), WHEN)
    assert_close(path.values, known.y.T, times=INTEGRATED)


@pytest.mark.parametrize("friction", [0.0, 0.4, 5.0])
def test_the_heavy_ball_is_a_damped_oscillator(friction):
    """u'' = −γ u' − λ (u − y) in each eigenvector of K/N, from rest."""
    lam, vectors = np.linalg.eigh(np.asarray(KERNEL(XTR), float) / N)
    root = np.sqrt((friction**2 / 4 - lam).astype(complex))
    decay = [
        np.exp(-friction * t / 2) * (np.cosh(root * t) + friction / 2 / root * np.sinh(root * t))
        for t in WHEN
    ]
    known = [Y - vectors @ (d.real[:, None] * (vectors.T @ (Y - F0))) for d in decay]
    path = integrate(KERNEL, mean_square(Y), XTR, F0, WHEN, friction=friction)
    assert_close(path.values, known, times=INTEGRATED)


def test_an_interrupted_integration_goes_on(tmp_path, monkeypatch):
    file, advance, calls = tmp_path / "flow", ntklib.integration._advance, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return advance(*args, **kwargs)

    def run(**more):
        return integrate(KERNEL, mean_square(Y), XTR, F0, WHEN, friction=0.4, **more)

    monkeypatch.setattr(ntklib.integration, "_advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=file)
    resumed = run(checkpoint=file)
    assert len(calls) == 4  # one time was kept: two and a half runs of three would be six
    np.testing.assert_array_equal(resumed.coefficients, run().coefficients)


def test_refusals():
    cost = mean_square(Y)
    with refused(ValueError, "times: expected increasing numbers ≥ 0, shape (T,)"):
        integrate(KERNEL, cost, XTR, F0, WHEN[::-1])
    with refused(ValueError, "friction: expected a finite number ≥ 0, got -1"):
        integrate(KERNEL, cost, XTR, F0, WHEN, friction=-1.0)
    with refused(ValueError, "noise: expected a finite number > 0, got 0"):
        posterior(KERNEL, XTR, Y, 0.0)
    with refused(ValueError, "ntk(x): expected shape (1, 1), got (1, 1, 2, 2)"):
        ensemble(KERNEL, Tensor(KERNEL, np.eye(2, dtype=FLOAT)), XTR, Y)
    explosive = Cost(lambda u: -jnp.exp(u**2).sum())
    with pytest.raises(FloatingPointError, match=r"times: no more than \d+ steps"):
        integrate(KERNEL, explosive, XTR, F0, WHEN)
