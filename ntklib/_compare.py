"""The comparisons that claims are made of: equality, inequality, rate."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from scipy import stats


class Outcome(NamedTuple):
    """How far a comparison is from its ideal, in units of its tolerance, and in words."""

    miss: float
    tolerance: str
    found: str


def _pair(left: ArrayLike, right: ArrayLike) -> tuple[np.ndarray, ...]:
    """Both sides in double precision (unsigned integers would wrap) and in one shape."""
    sides = (np.asarray(x) for x in (left, right))
    return np.broadcast_arrays(*(x.astype(np.result_type(x, np.float64)) for x in sides))


def _units(error: float, allowed: float) -> float:
    """The error in units of what is allowed; no error is 0 units even of nothing."""
    if error <= 0:
        return 0.0
    return float(error) / float(allowed) if allowed > 0 else float("inf")


def _relative_error(left: ArrayLike, right: ArrayLike, rtol: float, atol: float) -> Outcome:
    """max|left − right| against atol + rtol · max(|left|, |right|), maxima over all entries."""
    a, b = _pair(left, right)
    error = np.abs(a - b).max()
    allowed = atol + rtol * max(np.abs(a).max(), np.abs(b).max())
    parts = [f"{rtol:g} relative"] * (rtol > 0) + [f"{atol:g} absolute"] * (atol > 0)
    tolerance = "equal to " + " plus ".join(parts) if parts else "equal"
    return Outcome(_units(error, allowed), tolerance, f"differ by {error:.3g}")


def _excess(left: ArrayLike, right: ArrayLike, rtol: float) -> Outcome:
    """max(left − right) over all entries, against rtol · max(|left|, |right|)."""
    a, b = _pair(left, right)
    excess = (a - b).max()
    allowed = rtol * max(np.abs(a).max(), np.abs(b).max())
    told = "bounded"
    if (positive := (a > 0) & (b > 0)).any():
        told += f", at most {(a[positive] / b[positive]).max():.2g} of the bound"
    return Outcome(_units(excess, allowed), told, f"exceeds by {excess:.3g}")


def _slope(sizes: ArrayLike, errors: ArrayLike) -> tuple[float, float]:
    """Slope of log(error) against log(size), and the half-width of its 95 % interval.

    With several rows of errors (one a seed) the interval is Student's over the rows'
    slopes; with one row it is that of the least-squares fit.
    """
    n, e = np.log(np.asarray(sizes, float)), np.log(np.asarray(errors, float))
    if e.ndim == 1:
        fit = stats.linregress(n, e)
        return float(fit.slope), float(stats.t.ppf(0.975, len(n) - 2) * fit.stderr)
    slopes = np.polyfit(n, e.T, 1)[0]
    half = stats.t.ppf(0.975, len(slopes) - 1) * stats.sem(slopes)
    return float(slopes.mean()), float(half)


def _rate(
    sizes: ArrayLike, errors: ArrayLike, slope: float, within: float, rival: float
) -> Outcome:
    """Distance of the fitted exponent from `slope`, against `within`."""
    n, e = np.asarray(sizes, float), np.asarray(errors, float)
    if n.ndim != 1 or len(n) < 5 or not 0 < 16 * n.min() <= n.max():
        raise ValueError("sizes: a rate needs at least 5 sizes that span a factor of 16")
    if e.shape[-1:] != n.shape or e.ndim > 2 or len(e) < 2 or not (e > 0).all():
        raise ValueError(
            f"errors: expected positive, shape (n,) or (seeds, n) with seeds ≥ 2, got {e.shape}"
        )
    fitted, half = _slope(n, e)
    interval = f"[{fitted - half:.2f}, {fitted + half:.2f}]"
    miss = _units(abs(fitted - slope), within)
    if not abs(fitted - rival) > half:
        miss = max(miss, 2.0)
    told = f"slope {fitted:.2f}, 95 % interval {interval}, excludes {rival:g}"
    return Outcome(miss, f"{told}; expected {slope:g} ± {within:g}", f"slope in {interval}")


COMPARE: dict[str, Callable[..., Outcome]] = {
    "close": _relative_error,
    "bound": _excess,
    "rate": _rate,
}
