"""Claims: each numbered box of the book is held by one check that can fail.

Used as::

    with verify("thm-ridge") as claim:
        claim.close("the gradient of the cost at f is zero", gradient, 0.0, atol=1e-10)
        claim.breaks("with a negative ridge", wrong_gradient, 0.0)

A comparison raises `ClaimFailed`, naming the box, as soon as it fails. The block as a
whole raises if it compared nothing or has no control. Leaving the block prints what was
checked, never a measured residual, so that the text is the same on every machine.
"""

import html
import sys
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from jax.typing import ArrayLike

from ntklib._compare import COMPARE, Outcome

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


class verify:
    """The check of one numbered box, as a context manager.

    Args:
        label: the label of the box, for example ``"thm-mercer"``.
        kind: ``"proved"``, ``"illustrated"`` (an existence theorem, shown at work) or
            ``"cited"`` (not proved in the book: the check is evidence).

    Raises:
        ClaimFailed: a comparison fails or a control holds; at the end, nothing was compared
            or no control was run.
        ValueError: another kind.
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
        """Check left = right: ``max|left − right| ≤ atol + rtol · max(|left|, |right|)``.

        The maxima run over all entries (a normwise error, so a zero entry is no trap).

        Args:
            statement: what is equal, in words or formulas; printed.
            left: numbers or an array of any shape.
            right: the same, of a shape that broadcasts with left.
            rtol: relative tolerance.
            atol: absolute tolerance, in the unit of left.

        Raises:
            ClaimFailed: they differ by more, or an entry is NaN or infinite.
        """
        self._holds("close", statement, left, right, rtol=rtol, atol=atol)

    def bound(
        self, statement: str, left: ArrayLike, right: ArrayLike, *, rtol: float = 1e-9
    ) -> None:
        """Check left ≤ right in every entry, up to rounding, and print how tight it is.

        Args:
            statement: the inequality, in words or formulas; printed.
            left: numbers or an array of any shape.
            right: the same, of a shape that broadcasts with left.
            rtol: the excess that counts as rounding, relative to the largest entry.

        Raises:
            ClaimFailed: an entry of left exceeds its bound, or is NaN or infinite.
        """
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

        Args:
            statement: what falls or grows with what; printed.
            sizes: shape (n,), n ≥ 5, spanning a factor of 16.
            errors: positive, shape (n,) or (seeds, n).
            slope: the exponent that is claimed.
            within: how far the fitted exponent may be from it.
            rival: an exponent that the 95 % interval has to exclude.

        Raises:
            ClaimFailed: the fitted exponent is too far off, or the rival is not excluded.
            ValueError: too few sizes, too narrow a span, or another shape of errors.
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

        Run the code that the check ran; change only the hypothesis.

        Args:
            removed: the hypothesis that was removed, in words; printed.
            args: what the comparison takes after its statement.
            by: the comparison, one that the claim has already made.
            tolerances: those of the last check by this comparison unless given, and never
                tighter than its tightest, since anything misses a tolerance of zero.

        Raises:
            ClaimFailed: the comparison holds, or misses by less than ten times its tolerance.
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
        return COMPARE[how](*args, **tolerances)

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
