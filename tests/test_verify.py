"""Claims: a false one raises naming its box, and so does a check that could not fail."""

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from ntklib.verify import KINDS, MIME, ClaimFailed, verify

SIZES = np.array([4, 8, 16, 32, 64, 128])


# --- close


@pytest.mark.parametrize(
    ("left", "right", "tolerances"),
    [
        (1.0, 1.0, {"rtol": 0.0}),
        (0.0, 0.0, {}),
        (1.0, 1.0 + 1e-11, {}),
        (100.0, 101.0, {"rtol": 0.01}),  # relative to the larger of the two
        (101.0, 100.0, {"rtol": 0.01}),
        (0.0, 0.5, {"atol": 0.5}),
        (10.0, 12.5, {"rtol": 0.1, "atol": 1.25}),  # the two tolerances add up
        ([1000.0, 0.0], [1000.0, 1e-8], {"rtol": 1e-10}),  # normwise: a zero is no trap
        ([[1.0], [1.0]], 1.0, {}),
        (1 + 1j, 1 + 1j, {}),
        (jnp.ones(3), np.ones(3), {}),
    ],
)
def test_close_holds(left, right, tolerances) -> None:
    claim = verify("thm-a")
    claim.close("equal", left, right, **tolerances)
    assert len(claim.checks) == 1


@pytest.mark.parametrize(
    ("left", "right", "tolerances", "told"),
    [
        (1.0, 1.0 + 3e-10, {}, r"differ by 3e-10; equal to 1e-10 relative"),
        (100.0, 101.1, {"rtol": 0.01}, r"differ by 1.1; equal to 0.01 relative"),
        (101.1, 100.0, {"rtol": 0.01}, r"differ by 1.1"),
        (-101.1, -100.0, {"rtol": 0.01}, r"differ by 1.1"),
        (0.0, 0.6, {"rtol": 0.0, "atol": 0.5}, r"differ by 0.6; equal to 0.5 absolute"),
        (
            1.0,
            2.0,
            {"rtol": 0.1, "atol": 0.2},
            r"differ by 1; equal to 0.1 relative plus 0.2 absolute",
        ),
        (1.0, 2.0, {"rtol": 0.0}, r"differ by 1; equal\)"),
        (0.0, 1e-300, {}, r"differ by 1e-300"),
        ([1.0, 1.0], [1.0, 2.0], {}, r"differ by 1"),
        (1 + 1j, 1 - 1j, {}, r"differ by 2"),
        (np.uint8(3), np.uint8(5), {}, r"differ by 2"),
        (True, False, {}, r"differ by 1"),
    ],
)
def test_close_fails_naming_box_statement_and_error(left, right, tolerances, told) -> None:
    with pytest.raises(ClaimFailed, match=rf"^thm-a: 'they agree' fails \({told}"):
        verify("thm-a").close("they agree", left, right, **tolerances)


def test_the_tolerance_is_met_at_its_edge() -> None:
    verify("thm-a").close("at the edge", 0.0, 0.5, rtol=0.0, atol=0.5)
    with pytest.raises(ClaimFailed):
        verify("thm-a").close("past it", 0.0, np.nextafter(0.5, 1), rtol=0.0, atol=0.5)


# --- bound


@pytest.mark.parametrize(
    ("left", "right", "told"),
    [
        (1.0, 2.0, "bounded, at most 0.5 of the bound"),
        (2.0, 2.0, "bounded, at most 1 of the bound"),
        ([1.0, 3.0], [4.0, 4.0], "bounded, at most 0.75 of the bound"),
        ([-5.0, 3.0], [0.0, 4.0], "bounded, at most 0.75 of the bound"),
        (-2.0, -1.0, "bounded"),  # a tightness is told of a positive bound only
        (0.0, 0.0, "bounded"),
        (0.0, 2.0, "bounded"),
        (-0.5, 2.0, "bounded"),
        (1.0 + 1e-10, 1.0, "bounded, at most 1 of the bound"),  # up to rounding
        (-1000.0 + 1e-7, -1000.0, "bounded"),
        (np.uint8(3), np.uint8(5), "bounded, at most 0.6 of the bound"),
    ],
)
def test_bound_holds_and_tells_how_tight_it_is(left, right, told) -> None:
    claim = verify("thm-a")
    claim.bound("less", left, right)
    assert claim.checks == [{"statement": "less", "how": "bound", "tolerance": told}]


@pytest.mark.parametrize(
    ("left", "right", "told"),
    [
        (2.0, 1.0, "exceeds by 1"),
        ([0.0, 2.0], [1.0, 1.5], "exceeds by 0.5"),
        (1.0 + 1e-8, 1.0, "exceeds by 1e-08"),
        (-1.0, -2.0, "exceeds by 1"),
        (1e-300, 0.0, "exceeds by 1e-300"),
    ],
)
def test_bound_fails(left, right, told) -> None:
    with pytest.raises(ClaimFailed, match=rf"^prop-b: 'less' fails \({told}; bounded"):
        verify("prop-b").bound("less", left, right)


def test_the_tolerance_of_a_bound_is_relative() -> None:
    verify("prop-b").bound("loose", 1.05, 1.0, rtol=0.1)
    verify("prop-b").bound("loose", 105.0, 100.0, rtol=0.1)
    verify("prop-b").bound("exact", 1.0, 2.0, rtol=0.0)
    with pytest.raises(ClaimFailed):
        verify("prop-b").bound("loose", 1.3, 1.0, rtol=0.1)


# --- rate


def powers(slope: float, seeds: int = 0) -> np.ndarray:
    """Errors 3·n^slope that wiggle a little, in `seeds` rows, or in one without rows."""
    wiggle = 1 + 0.05 * np.random.default_rng(0).standard_normal((max(seeds, 1), len(SIZES)))
    errors = 3 * wiggle * SIZES.astype(float) ** slope
    return errors if seeds else errors[0]


@pytest.mark.parametrize("seeds", [0, 4])
def test_rate_holds_and_prints_its_interval(seeds: int) -> None:
    claim = verify("thm-a")
    claim.rate("decays", SIZES, powers(-1.0, seeds), slope=-1.0, within=0.1, rival=-0.5)
    told = claim.checks[0]["tolerance"]
    assert told.startswith("slope -")
    assert told.endswith("excludes -0.5; expected -1 ± 0.1")


def test_the_interval_of_one_row_is_that_of_least_squares() -> None:
    # Errors 1, 2, 2, 4, ... against sizes 1, 2, 4, 8, 16: computed by hand in powers of two.
    claim = verify("thm-a")
    sizes, errors = 2.0 ** np.arange(5), 2.0 ** np.array([0.0, 1.0, 1.0, 2.0, 2.0])
    claim.rate("grows", sizes, errors, slope=0.5, within=0.1, rival=1.0)
    # slope 1/2, residual sum of squares 0.3, standard error √(0.3/3/10) = 0.1, t₃ = 3.1824
    assert "slope 0.50, 95 % interval [0.18, 0.82], excludes 1" in claim.checks[0]["tolerance"]


def test_the_interval_of_rows_is_students_over_their_slopes() -> None:
    sizes = 2.0 ** np.arange(5)
    errors = np.stack([sizes**-0.9, sizes**-1.0, sizes**-1.1])
    claim = verify("thm-a")
    claim.rate("decays", sizes, errors, slope=-1.0, within=0.1, rival=-0.5)
    # standard error 0.1/√3, t₂ = 4.3027
    assert "slope -1.00, 95 % interval [-1.25, -0.75]" in claim.checks[0]["tolerance"]


@pytest.mark.parametrize(
    ("slope", "rival"),
    [
        (-0.7, -0.5),  # the exponent is another one
        (-1.3, -0.5),
        (-1.0, -1.0),  # the interval holds the rival
    ],
)
def test_rate_fails(slope: float, rival: float) -> None:
    with pytest.raises(ClaimFailed, match=r"^thm-a: 'decays' fails \(slope in \[-.*\]; slope -"):
        verify("thm-a").rate("decays", SIZES, powers(slope), slope=-1.0, within=0.1, rival=rival)


def test_an_interval_that_holds_the_rival_is_no_evidence_however_wide_the_tolerance() -> None:
    errors = np.array([8.0, 1.0, 4.0, 0.5, 2.0, 0.25])
    with pytest.raises(ClaimFailed):
        verify("thm-a").rate("decays", SIZES, errors, slope=-1.0, within=5.0, rival=-0.5)


def test_the_end_of_the_interval_belongs_to_it() -> None:
    with pytest.raises(ClaimFailed):  # the slope is 0 and so is the interval's width
        verify("thm-a").rate("stays", SIZES, np.ones(6), slope=0.0, within=1.0, rival=0.0)


def test_an_interval_that_holds_the_rival_breaks_no_claim() -> None:
    claim = verify("thm-a")
    claim.rate("decays", SIZES, powers(-1.0), slope=-1.0, within=0.2, rival=-0.5)
    with pytest.raises(ClaimFailed, match="should break the claim and does not"):
        claim.breaks("nothing removed", SIZES, powers(-1.0), by="rate", rival=-1.0)


@pytest.mark.parametrize(
    "sizes",
    [
        [1, 2, 4, 16],  # four sizes
        [1, 2, 4, 8, 15],  # a span of 15
        [0, 2, 4, 8, 16],
        [-1, 2, 4, 8, 16],
        [[1, 2, 4, 8, 16]],
        16,
    ],
)
def test_rate_needs_five_positive_sizes_that_span_sixteen(sizes) -> None:
    errors = np.ones(np.shape(sizes))
    with pytest.raises(ValueError, match=r"^sizes: a rate needs at least 5 sizes"):
        verify("thm-a").rate("decays", sizes, errors, slope=0.0, within=1.0, rival=1.0)


def test_rate_is_content_with_five_sizes_and_a_span_of_sixteen() -> None:
    sizes = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    verify("thm-a").rate("decays", sizes, 1 / sizes, slope=-1.0, within=0.1, rival=-0.5)
    verify("thm-a").rate("decays", sizes / 1000, 1 / sizes, slope=-1.0, within=0.1, rival=-0.5)
    two_seeds = np.stack([1 / sizes, 1 / sizes])
    verify("thm-a").rate("decays", sizes, two_seeds, slope=-1.0, within=0.1, rival=-0.5)


@pytest.mark.parametrize(
    "errors",
    [np.ones(5), np.ones((1, 6)), np.ones((2, 3, 6)), np.zeros(6), -np.ones(6), np.ones((6, 2))],
)
def test_rate_refuses_errors_of_another_shape_or_sign(errors) -> None:
    with pytest.raises(ValueError, match=r"^errors: expected positive, shape \(n,\)"):
        verify("thm-a").rate("decays", SIZES, errors, slope=0.0, within=1.0, rival=1.0)


# --- controls


def test_a_control_that_holds_raises() -> None:
    claim = verify("thm-a")
    claim.close("equal", 1.0, 1.0)
    told = (
        r"^thm-a: the control 'nothing removed' should break the claim and does not \(differ by 0"
    )
    with pytest.raises(ClaimFailed, match=told):
        claim.breaks("nothing removed", 1.0, 1.0)
    assert claim.controls == []


def test_a_control_misses_by_ten_tolerances() -> None:
    claim = verify("thm-a")
    claim.close("equal", 0.0, 0.0, rtol=0.0, atol=0.5)
    with pytest.raises(ClaimFailed, match="a control misses 10 times the tolerance"):
        claim.breaks("a near miss", 0.0, 4.75)
    claim.breaks("a clear miss", 0.0, 5.0)


def test_a_control_has_the_tolerance_of_the_last_check_by_its_comparison() -> None:
    claim = verify("thm-a")
    claim.close("equal", 1.0, 1.0, rtol=1e-10)
    claim.close("equal", 1.0, 1.0, rtol=0.0, atol=1.0)
    claim.bound("less", 1.0, 2.0, rtol=0.5)
    with pytest.raises(ClaimFailed, match="does not"):
        claim.breaks("a miss of nine", 0.0, 9.0)
    claim.breaks("a miss of nine tolerances of the first check", 0.0, 9.0, rtol=1e-10, atol=0.0)


@pytest.mark.parametrize("tighter", [{"rtol": 1e-12}, {"atol": 1e-12}, {"rtol": 0.0}])
def test_a_control_is_not_tighter_than_its_check(tighter) -> None:
    claim = verify("thm-a")
    claim.close("equal", 1.0, 1.0, rtol=1e-2, atol=1e-3)
    told = f"^thm-a: the control 'it' has a tighter {next(iter(tighter))} than its check"
    with pytest.raises(ClaimFailed, match=told):
        claim.breaks("it", 1.0, 9.0, **tighter)


def test_the_width_of_a_rate_counts_as_its_tolerance() -> None:
    claim = verify("thm-a")
    claim.rate("decays", SIZES, powers(-1.0), slope=-1.0, within=0.1, rival=-0.5)
    with pytest.raises(ClaimFailed, match="tighter within"):
        claim.breaks("it", SIZES, powers(-0.5), by="rate", within=0.01)
    claim.breaks("it", SIZES, powers(0.2), by="rate")
    claim.breaks("it", SIZES, powers(-0.5), by="rate", slope=-2.0)


def test_a_control_follows_a_check_by_its_comparison() -> None:
    claim = verify("thm-a")
    claim.close("equal", 1.0, 1.0)
    with pytest.raises(ClaimFailed, match=r"^thm-a: the control 'it' follows no check by bound"):
        claim.breaks("it", 2.0, 1.0, by="bound")


def test_a_control_may_break_a_bound() -> None:
    claim = verify("thm-a")
    claim.bound("less", 1.0, 2.0)
    claim.breaks("it", 2.0, 1.0, by="bound")
    assert claim.controls == [{"statement": "it", "how": "bound"}]


# --- what cannot fail raises


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, [], [1.0, np.nan], np.zeros((0, 3))])
@pytest.mark.parametrize("swap", [False, True])
def test_nan_infinity_and_nothing_raise(bad, swap: bool) -> None:
    sides = (1.0, bad) if swap else (bad, 1.0)
    told = "^thm-a: 'it' compares NaN, inf or nothing"
    with pytest.raises(ClaimFailed, match=told):
        verify("thm-a").close("it", *sides)
    with pytest.raises(ClaimFailed, match=told):
        verify("thm-a").bound("it", *sides)
    claim = verify("thm-a")
    claim.close("equal", 1.0, 1.0)
    with pytest.raises(ClaimFailed, match=told):
        claim.breaks("it", *sides)


def test_a_tolerance_that_is_nan_raises() -> None:
    with pytest.raises(ClaimFailed):
        verify("thm-a").close("it", 1.0, 2.0, rtol=np.nan)


def test_a_claim_without_a_check_raises() -> None:
    with pytest.raises(ClaimFailed, match=r"^lem-c: nothing was checked"), verify("lem-c"):
        pass


def test_a_claim_without_a_control_raises() -> None:
    with (
        pytest.raises(ClaimFailed, match=r"^lem-c: no control; a check that cannot fail"),
        verify("lem-c") as claim,
    ):
        claim.close("equal", 1.0, 1.0)


def test_another_error_passes_through_and_nothing_is_shown(capsys) -> None:
    claim = claim_with_markup()
    with pytest.raises(KeyError), claim:
        raise KeyError
    assert capsys.readouterr().out == ""


def test_an_unknown_kind_is_refused() -> None:
    told = "^kind: expected one of proved, illustrated, cited, got 'shown'"
    with pytest.raises(ValueError, match=told):
        verify("thm-a", kind="shown")


def test_a_failed_claim_is_a_failed_assertion() -> None:
    assert issubclass(ClaimFailed, AssertionError)


# --- what is shown


def claim_with_markup(kind: str = "proved") -> verify:
    claim = verify("thm-a", kind=kind)
    claim.close('a < b & "c"', 1.0, 1.0)
    claim.bound("it is less", 1.0, 2.0)
    claim.breaks("without <i>", 1.0, 2.0)
    return claim


TEXT = """\
✓ thm-a: proved and checked
  ✓ a < b & "c"
      equal to 1e-10 relative
  ✓ it is less
      bounded, at most 0.5 of the bound
  ✗ without <i>: breaks, as it must"""

HTML = (
    '<div class="claim" id="check-thm-a"><p class="claim-title">'
    '<a class="claim-box" href="#thm-a">thm-a</a> '
    '<span class="claim-kind">proved and checked</span></p><ul>'
    '<li class="claim-holds"><span class="claim-statement">a &lt; b &amp; &quot;c&quot;</span> '
    '<span class="claim-tolerance">equal to 1e-10 relative</span></li>'
    '<li class="claim-holds"><span class="claim-statement">it is less</span> '
    '<span class="claim-tolerance">bounded, at most 0.5 of the bound</span></li>'
    '<li class="claim-breaks"><span class="claim-statement">without &lt;i&gt;</span> '
    '<span class="claim-tolerance">breaks, as it must</span></li></ul></div>'
)

STORED = {
    "label": "thm-a",
    "kind": "proved and checked",
    "checks": [
        {"statement": 'a < b & "c"', "how": "close", "tolerance": "equal to 1e-10 relative"},
        {
            "statement": "it is less",
            "how": "bound",
            "tolerance": "bounded, at most 0.5 of the bound",
        },
    ],
    "controls": [{"statement": "without <i>", "how": "close"}],
}


def test_the_text_says_what_was_checked() -> None:
    assert str(claim_with_markup()) == TEXT


def test_the_html_escapes_and_links_to_the_box() -> None:
    assert claim_with_markup()._repr_html_() == HTML
    assert 'id="check-&lt;b&gt;"' in verify("<b>")._repr_html_()


def test_the_text_does_not_depend_on_the_residual() -> None:
    texts = set()
    for residual in (0.0, 1e-15, 3e-12):
        claim = verify("thm-a")
        claim.close("equal", 1.0, 1.0 + residual)
        claim.breaks("it", 1.0, 2.0 + residual)
        texts.add(str(claim) + claim._repr_html_() + json.dumps(claim.as_dict()))
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("proved", "proved and checked"),
        ("illustrated", "proved, illustrated"),
        ("cited", "cited and checked"),
    ],
)
def test_the_kind_is_told(kind: str, told: str) -> None:
    claim = claim_with_markup(kind)
    assert KINDS[kind] == told
    assert str(claim).splitlines()[0] == f"✓ thm-a: {told}"
    assert f'<span class="claim-kind">{told}</span>' in claim._repr_html_()
    assert claim.as_dict()["kind"] == told


def test_the_stored_claim_is_json() -> None:
    assert MIME == "application/vnd.ntklib.claim+json"
    assert json.loads(json.dumps(claim_with_markup().as_dict())) == STORED


def hold() -> None:
    with verify("thm-a") as claim:
        claim.close('a < b & "c"', 1.0, 1.0)
        claim.bound("it is less", 1.0, 2.0)
        claim.breaks("without <i>", 1.0, 2.0)


def test_without_a_shell_the_text_is_printed(capsys) -> None:
    hold()
    assert capsys.readouterr().out == TEXT + "\n"


def test_without_ipython_the_text_is_printed(capsys, monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython")
    hold()
    assert capsys.readouterr().out == TEXT + "\n"


def test_a_notebook_gets_text_html_and_json_once() -> None:
    InteractiveShell.instance()
    try:
        with capture_output() as captured:
            hold()
    finally:
        InteractiveShell.clear_instance()
    assert captured.stdout == ""
    assert [output.data for output in captured.outputs] == [
        {"text/plain": TEXT, "text/html": HTML, MIME: STORED}
    ]
