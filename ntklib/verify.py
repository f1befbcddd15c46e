"""Claims: each numbered box of the book is held by one check that can fail.

    with verify("thm-ridge") as claim:
        claim.close("the gradient of the cost at f is zero", gradient, 0.0, atol=1e-10)
        claim.breaks("with a negative ridge", wrong_gradient, 0.0)

A comparison raises `ClaimFailed`, naming the box, as soon as it fails. The block as a
whole raises if it compared nothing or has no control. Leaving the block prints what was
checked, never a measured residual, so that the text is the same on every machine.
"""

import html
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from jax.typing import ArrayLike
from scipy import stats

__all__ = ["MIME", "ClaimFailed", "verify"]

MIME = "application/vnd.ntklib.claim+json"
"""Media type under which a claim is stored in a notebook's output."""

MISS = 10.0
"""A control has to miss its tolerance by at least this factor."""

Kind = Literal["proved", "illustrated", "cited"]
KINDS = {
    "proved": "proved and checked",
    "illustrated": "proved, illustrated",
    "cited": "cited and checked",
}


class ClaimFailed(AssertionError):
    """A check of a numbered box failed, a control held, or one of them is missing."""


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


_COMPARE: dict[str, Callable[..., Outcome]] = {
    "close": _relative_error,
    "bound": _excess,
    "rate": _rate,
}


class verify:
    """The check of one numbered box, as a context manager.

    label: the label of the box, for example ``"thm-mercer"``.
    kind: ``"proved"``, ``"illustrated"`` (an existence theorem, shown at work) or
        ``"cited"`` (not proved in the book: the check is evidence).

    Raises `ClaimFailed` as soon as a comparison fails or a control holds, and at the end
    if nothing was compared or no control was run.
    """

    def __init__(self, label: str, kind: Kind = "proved") -> None:
        if kind not in KINDS:
            raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
        self.label = label
        self.kind = kind
        self.checks: list[dict[str, str]] = []
        self.controls: list[dict[str, str]] = []
        self._used: list[tuple[str, dict[str, float]]] = []

    def close(
        self,
        statement: str,
        left: ArrayLike,
        right: ArrayLike,
        *,
        rtol: float = 1e-10,
        atol: float = 0.0,
    ) -> None:
        """Check left = right: max|left − right| ≤ atol + rtol · max(|left|, |right|).

        The maxima run over all entries (a normwise error, so a zero entry is no trap).
        """
        self._holds("close", statement, left, right, rtol=rtol, atol=atol)

    def bound(
        self, statement: str, left: ArrayLike, right: ArrayLike, *, rtol: float = 1e-9
    ) -> None:
        """Check left ≤ right in every entry, up to rounding, and print how tight it is."""
        self._holds("bound", statement, left, right, rtol=rtol)

    def rate(
        self,
        statement: str,
        sizes: ArrayLike,
        errors: ArrayLike,
        *,
        slope: float,
        within: float,
        rival: float,
    ) -> None:
        """Check errors ∝ sizes^slope, with an interval that excludes the rival exponent.

        sizes: shape (n,), n ≥ 5, spanning a factor of 16. errors: positive, shape (n,), or
        (seeds, n). Raises ValueError for any other shape.
        """
        self._holds("rate", statement, sizes, errors, slope=slope, within=within, rival=rival)

    def breaks(
        self,
        removed: str,
        *args: ArrayLike,
        by: Literal["close", "bound", "rate"] = "close",
        **tolerances: float,
    ) -> None:
        """Check that the comparison `by` misses tenfold once one hypothesis is removed.

        removed: the hypothesis that was removed, in words. args: as for the comparison.
        tolerances: those of the last check by this comparison unless given, and never tighter
        than its tightest, since anything misses a tolerance of zero. Run the code that the
        check ran; change only the hypothesis.
        """
        used = [tolerance for how, tolerance in self._used if how == by]
        if not used:
            raise ClaimFailed(f"{self.label}: the control '{removed}' follows no check by {by}")
        for name in {"rtol", "atol", "within"} & tolerances.keys():
            if tolerances[name] < min(tolerance[name] for tolerance in used):
                raise ClaimFailed(
                    f"{self.label}: the control '{removed}' has a tighter {name} than its check"
                )
        outcome = self._compare(by, removed, *args, **{**used[-1], **tolerances})
        if not outcome.miss >= MISS:
            raise ClaimFailed(
                f"{self.label}: the control '{removed}' should break the claim and does not "
                f"({outcome.found}; a control misses {MISS:g} times the tolerance)"
            )
        self.controls.append({"statement": removed, "how": by})

    def _holds(self, how: str, statement: str, *args: ArrayLike, **tolerances: float) -> None:
        outcome = self._compare(how, statement, *args, **tolerances)
        if not outcome.miss <= 1:
            raise ClaimFailed(
                f"{self.label}: '{statement}' fails ({outcome.found}; {outcome.tolerance})"
            )
        self.checks.append({"statement": statement, "how": how, "tolerance": outcome.tolerance})
        self._used.append((how, tolerances))

    def _compare(self, how: str, statement: str, *args: ArrayLike, **tolerances: float) -> Outcome:
        for value in args:
            array = np.asarray(value)
            if array.size == 0 or not np.isfinite(array).all():
                raise ClaimFailed(f"{self.label}: '{statement}' compares NaN, inf or nothing")
        return _COMPARE[how](*args, **tolerances)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            return
        if not self.checks:
            raise ClaimFailed(f"{self.label}: nothing was checked")
        if not self.controls:
            raise ClaimFailed(f"{self.label}: no control; a check that cannot fail is no check")
        self._show()

    def as_dict(self) -> dict[str, Any]:
        """The claim as stored in a notebook: label, kind, checks and controls."""
        return {
            "label": self.label,
            "kind": KINDS[self.kind],
            "checks": self.checks,
            "controls": self.controls,
        }

    def __str__(self) -> str:
        lines = [f"✓ {self.label}: {KINDS[self.kind]}"]
        lines += [f"  ✓ {c['statement']}\n      {c['tolerance']}" for c in self.checks]
        lines += [f"  ✗ {c['statement']}: breaks, as it must" for c in self.controls]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        def row(name: str, statement: str, told: str) -> str:
            return (
                f'<li class="{name}"><span class="claim-statement">{html.escape(statement)}</span> '
                f'<span class="claim-tolerance">{html.escape(told)}</span></li>'
            )

        rows = [row("claim-holds", c["statement"], c["tolerance"]) for c in self.checks]
        rows += [row("claim-breaks", c["statement"], "breaks, as it must") for c in self.controls]
        label = html.escape(self.label)
        return (
            f'<div class="claim" id="check-{label}">'
            f'<p class="claim-title"><a class="claim-box" href="#{label}">{label}</a> '
            f'<span class="claim-kind">{KINDS[self.kind]}</span></p>'
            f"<ul>{''.join(rows)}</ul></div>"
        )

    def _show(self) -> None:
        if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
            from IPython.display import publish_display_data

            publish_display_data(
                {
                    "text/plain": str(self),
                    "text/html": self._repr_html_(),
                    MIME: self.as_dict(),
                }
            )
        else:
            print(self)
