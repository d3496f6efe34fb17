"""PSNR and SSIM against hand-computed values and a slow, plain SSIM."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.errors import InvalidInput
from doorward.metrics import psnr, ssim


def test_psnr_by_hand():
    a = torch.zeros(3, 1, 2, 2, dtype=torch.float64)
    b = a.clone()
    b[1] = 0.1  # mean squared error 0.01
    b[2, 0, 0, 0] = 1  # mean squared error 1/4
    found = psnr(a, b)
    assert found[0] == math.inf
    assert found[1:].tolist() == pytest.approx([20, 10 * math.log10(4)])


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 8), (11, 40), (33, 12)])
@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_of_flat_images_by_hand(size, channels):
    # No variance: what remains is the luminance term (2ab + c1) / (a^2 + b^2 + c1).
    a = torch.full((2, channels, *size), 0.4, dtype=torch.float64)
    b = torch.full_like(a, 0.8)
    expected = (2 * 0.4 * 0.8 + 1e-4) / (0.4**2 + 0.8**2 + 1e-4)
    assert ssim(a, b).tolist() == pytest.approx([expected] * 2, rel=1e-9)
    assert ssim(a, a).tolist() == pytest.approx([1, 1])


def test_ssim_of_a_single_window_by_hand():
    # 3 x 3 with an even window: means 1/9 and 1/9, variances 8/81, covariance -1/81.
    a = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    b = a.clone()
    a[0, 0, 0, 0] = b[0, 0, 2, 2] = 1
    mean, variance, covariance = 1 / 9, 8 / 81, -1 / 81
    c1, c2 = 1e-4, 9e-4
    luminance = (2 * mean**2 + c1) / (2 * mean**2 + c1)
    structure = (2 * covariance + c2) / (2 * variance + c2)
    assert ssim(a, b, window=3, sigma=1e6).item() == pytest.approx(luminance * structure)


def plain_ssim(a, b):
    """The formula, position by position, for one channel of at least 11 x 11."""
    place = torch.arange(11, dtype=torch.float64) - 5
    line = torch.exp(-(place**2) / (2 * 1.5**2))
    weights = torch.outer(line, line) / torch.outer(line, line).sum()
    values = []
    for row in range(a.shape[0] - 10):
        for column in range(a.shape[1] - 10):
            p, q = a[row : row + 11, column : column + 11], b[row : row + 11, column : column + 11]
            mp, mq = (weights * p).sum(), (weights * q).sum()
            vp, vq = (weights * (p - mp) ** 2).sum(), (weights * (q - mq) ** 2).sum()
            cov = (weights * (p - mp) * (q - mq)).sum()
            values.append(
                (2 * mp * mq + 1e-4)
                * (2 * cov + 9e-4)
                / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4))
            )
    return torch.stack(values).mean()


def test_ssim_agrees_with_the_plain_formula():
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(1, 3, 14, 17, generator=generator, dtype=torch.float64)
    b = (a + 0.2 * torch.rand(a.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)
    expected = torch.stack([plain_ssim(a[0, c], b[0, c]) for c in range(3)]).mean()
    assert ssim(a, b).item() == pytest.approx(expected.item(), rel=1e-10)
    assert ssim(a.float(), b.float()).item() == pytest.approx(expected.item(), abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 1000),
)
def test_ssim_is_symmetric_bounded_and_one_on_itself(height, width, channels, seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.rand(2, 2, channels, height, width, generator=generator)
    forth, back = ssim(a, b), ssim(b, a)
    assert torch.allclose(forth, back, atol=1e-4)
    assert (forth.abs() <= 1 + 1e-4).all()
    assert torch.allclose(ssim(a, a), torch.ones(2), atol=1e-5)


def test_ssim_is_differentiable():
    a = torch.rand(1, 1, 12, 12, dtype=torch.float64)
    b = torch.rand(1, 1, 12, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ssim(a, x), (b,))


@pytest.mark.parametrize(
    ("a", "b", "options"),
    [
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 5), {}),
        (torch.zeros(1, 4, 4), torch.zeros(1, 4, 4), {}),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.float64), {}),
        (torch.zeros(1, 1, 4, 4, dtype=torch.uint8), torch.zeros(1, 1, 4, 4).byte(), {}),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), {"window": 4}),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), {"sigma": 0}),
    ],
)
def test_what_cannot_be_compared_is_refused(a, b, options):
    with pytest.raises(InvalidInput):
        ssim(a, b, **options)
    if not options:
        with pytest.raises(InvalidInput):
            psnr(a, b)
