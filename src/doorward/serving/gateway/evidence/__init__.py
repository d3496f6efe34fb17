"""The evidence log: what was asked and answered, salted, hashed, chained, in SQL.

>>> import numpy as np
>>> from doorward.randomness import Secret
>>> from doorward.serving.database import Database
>>> log = EvidenceLog(Database("sqlite://"), Secret(bytes(32)))
>>> images, answers = np.zeros((2, 1, 4, 4), np.float32), np.array([3, 7])
>>> entry = log.entry("ada", "ada", images, answers, facts={"model": "net"}, budget=10)
>>> [outcome.used for outcome in log.append([entry])]
[2]
>>> log.check().rows, log.find("ada", images[:1])[0].count
(1, 2)

Nobody can read images or answers out of the log. Whoever holds the gateway's secret can show that a
tenant asked about an image, and what it was told; whoever changes, drops or reorders a row breaks
the chain, and without the secret cannot mend it.
"""

from doorward.serving.gateway.evidence.checking import EvidenceCheck
from doorward.serving.gateway.evidence.entries import Account, Entry, Move, Outcome
from doorward.serving.gateway.evidence.log import EvidenceLog
from doorward.serving.gateway.evidence.rows import Row

__all__ = ["Account", "Entry", "EvidenceCheck", "EvidenceLog", "Move", "Outcome", "Row"]
