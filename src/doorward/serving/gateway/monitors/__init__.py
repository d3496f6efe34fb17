"""What gives a thief away: distances between its queries, the classes it gets, what its images are.

>>> import numpy as np
>>> from doorward.randomness import Secret
>>> watch = Watch(Monitors(prada=Prada(least=20)), secret=Secret(bytes(32)))
>>> images = np.random.default_rng(0).random((40, 1, 4, 4), dtype=np.float32)
>>> scores = np.full((40, 2), 0.5, np.float32)
>>> [reading.monitor for reading in watch.observe(images, scores)]
['prada']

A monitor reads numbers and compares them with thresholds of yours; when one alarms, the gateway
moves the tenant one stage up and begins to watch anew. None of them sees a patient thief who asks
about natural images of your own kind: budgets and the honeypot are for that one.
"""

from doorward.serving.gateway.monitors.prada import PradaMonitor
from doorward.serving.gateway.monitors.reading import Monitor, Reading
from doorward.serving.gateway.monitors.reference import Reference, reference_of
from doorward.serving.gateway.monitors.settings import Drift, Monitors, Prada, Share
from doorward.serving.gateway.monitors.watch import Watch

__all__ = [
    "Drift",
    "Monitor",
    "Monitors",
    "Prada",
    "PradaMonitor",
    "Reading",
    "Reference",
    "Share",
    "Watch",
    "reference_of",
]
