"""Kernels of infinitely wide networks with 50 digits, from the defining recursion."""

import mpmath
from mpmath import mp, mpf

mp.dps = 50


def theta(q1, q2, c):
    """The angle between u and v."""
    s = mpmath.sqrt(q1 * q2)
    return mpmath.acos(max(min(c / s, mpf(1)), mpf(-1))) if s else mpmath.pi / 2


def piecewise(a, b):
    def moments(q1, q2, c):
        t, s = theta(q1, q2, c), mpmath.sqrt(q1 * q2)
        bend = mpf(b - a) ** 2 / (2 * mpmath.pi)
        k0, k1 = mpmath.pi - t, mpmath.sin(t) + (mpmath.pi - t) * mpmath.cos(t)
        return bend * s * k1 + mpf(a) * b * c, bend * k0 + mpf(a) * b

    return moments


def sign(q1, q2, c):
    return 1 - 2 * theta(q1, q2, c) / mpmath.pi, mpf(0)


def erf(q1, q2, c):
    d = (1 + 2 * q1) * (1 + 2 * q2)
    value = 2 / mpmath.pi * mpmath.asin(2 * c / mpmath.sqrt(d))
    return value, 4 / (mpmath.pi * mpmath.sqrt(d - 4 * c**2))


def gelu(q1, q2, c):
    d = (1 + q1) * (1 + q2) - c**2

    def value(c):
        d = (1 + q1) * (1 + q2) - c**2
        arc = mpmath.asin(c / mpmath.sqrt((1 + q1) * (1 + q2)))
        rest = q1 * q2 + c**2 * (1 / (1 + q1) + 1 / (1 + q2) - 1)
        return c / 4 + c * arc / (2 * mpmath.pi) + rest / (2 * mpmath.pi * mpmath.sqrt(d))

    arc = mpmath.atan2(c, mpmath.sqrt(d)) / (2 * mpmath.pi)
    rest = 1 / d + (1 - q1 * q2) / ((1 + q1) * (1 + q2)) + 1
    return value(c), mpf(1) / 4 + arc + c * rest / (2 * mpmath.pi * mpmath.sqrt(d))


def sin(q1, q2, c):
    e = mpmath.exp(-(q1 + q2) / 2)
    return e * mpmath.sinh(c), e * mpmath.cosh(c)


def cos(q1, q2, c):
    e = mpmath.exp(-(q1 + q2) / 2)
    return e * mpmath.cosh(c), e * mpmath.sinh(c)


def rbf(q1, q2, c):
    k = mpmath.exp(-(q1 + q2 - 2 * c))
    return k, 2 * k


def gaussian(q1, q2, c):
    d = (1 + 2 * q1) * (1 + 2 * q2) - 4 * c**2
    return 1 / mpmath.sqrt(d), 4 * c / d ** mpf("1.5")


def exponential(q1, q2, c):
    k = mpmath.exp((q1 + q2) / 2 + c)
    return k, k


def cube(q1, q2, c):
    return 6 * c**3 + 9 * q1 * q2 * c, 18 * c**2 + 9 * q1 * q2


def ramp2(q1, q2, c):
    """max(x, 0)²."""
    t, s = theta(q1, q2, c), q1 * q2
    j2 = 3 * mpmath.sin(t) * mpmath.cos(t) + (mpmath.pi - t) * (1 + 2 * mpmath.cos(t) ** 2)
    return s * j2 / (2 * mpmath.pi), 4 * piecewise(0, 1)(q1, q2, c)[0]


def step0(q1, q2, c):
    return (mpmath.pi - theta(q1, q2, c)) / (2 * mpmath.pi), mpf(0)


def network(moments, w, b, x, y):
    """(K, Θ) at two points for dense layers with σ_w = w, σ_b = b and activations between."""
    x, y = [mpf(float(v)) for v in x], [mpf(float(v)) for v in y]
    w2, b2 = mpf(w) ** 2, mpf(b) ** 2

    def inner(x, y):
        return mpmath.fsum(a * b for a, b in zip(x, y, strict=True)) / len(x)

    q1, q2, c, ntk = inner(x, x), inner(y, y), inner(x, y), mpf(0)
    for layer in range(len(moments) + 1):
        q1, q2, c, ntk = w2 * q1 + b2, w2 * q2 + b2, w2 * c + b2, w2 * (c + ntk) + b2
        if layer < len(moments):
            value, slope = moments[layer](q1, q2, c)
            q1, q2 = (moments[layer](q, q, q)[0] for q in (q1, q2))
            c, ntk = value, slope * ntk
    return c, ntk
