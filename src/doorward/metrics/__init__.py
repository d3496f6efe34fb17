"""What is measured: accuracy, attacks, image distances, and exact statistics.

The answers of a model, and how often they are right:

>>> import torch
>>> from doorward.metrics import accuracy, predict
>>> from doorward.metrics import binomial_tail_log2, clopper_pearson
>>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
>>> predict(model, torch.rand(5, 1, 8, 8)).shape
torch.Size([5, 2])

How a model stands to a backdoor (`attack_success`, `robust_accuracy`, or both in one pass with
`attack_outcome`), and what a defence gained (`der`). How far apart two images are (`psnr`,
`ssim`). How surprising a number of matches is, exactly, however small the probability:

>>> round(binomial_tail_log2(46, 100, 0.1), 1)
-64.9
>>> low, high = clopper_pearson(98, 100)
>>> round(low, 3), round(high, 3)
(0.93, 0.998)
"""

from doorward.metrics.attacks import (
    AttackOutcome,
    attack_outcome,
    attack_success,
    der,
    robust_accuracy,
)
from doorward.metrics.distance import psnr, ssim
from doorward.metrics.lots import lots_tail_log2
from doorward.metrics.predictions import (
    accuracy,
    evaluating,
    expected_calibration_error,
    predict,
)
from doorward.metrics.statistics import (
    binomial_tail,
    binomial_tail_log2,
    binomial_threshold,
    clopper_pearson,
    hypergeometric_survival,
    hypergeometric_survival_log2,
)

__all__ = [
    "AttackOutcome",
    "accuracy",
    "attack_outcome",
    "attack_success",
    "binomial_tail",
    "binomial_tail_log2",
    "binomial_threshold",
    "clopper_pearson",
    "der",
    "evaluating",
    "expected_calibration_error",
    "hypergeometric_survival",
    "hypergeometric_survival_log2",
    "lots_tail_log2",
    "predict",
    "psnr",
    "robust_accuracy",
    "ssim",
]
