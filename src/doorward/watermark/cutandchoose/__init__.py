"""Cut-and-choose: let everybody see that an owner's labels are wrong, without seeing them all.

What a plan is worth, before any key is made (Adi et al. 2018 open n of 2n pairs):

>>> import math
>>> plan = CutAndChoose(pairs=200, opened=100)               # drawn by a hash: 2^-80
>>> plan.bad, plan.needed(10, math.log2(1e-9)), round(plan.soundness(20), 1)
(61, 80, -21.5)

`open_pairs` opens the drawn pairs of a key, once, when its claim has been published;
`inspect_pairs` is for everybody; `verify_unopened` asks a suspect about the rest. The keys of
`WatermarkKey` do without: no label of theirs can be the truth (`doorward.watermark.key`).
"""

from doorward.watermark.cutandchoose.pairs import OpenedPairs, open_pairs
from doorward.watermark.cutandchoose.plan import BY_BEACON, BY_HASH, CutAndChoose
from doorward.watermark.cutandchoose.rest import Inspection, inspect_pairs, verify_unopened

__all__ = [
    "BY_BEACON",
    "BY_HASH",
    "CutAndChoose",
    "Inspection",
    "OpenedPairs",
    "inspect_pairs",
    "open_pairs",
    "verify_unopened",
]
