"""Scanning: which class of a model is attacked, and what do its triggers look like?

One call, any scanner, any module; the given model stays as it is::

    result, recovered = scan(model, clean)            # the default scanner
    result.accused                                    # classes called attacked; none is an answer
    result.searched                                   # which triggers this scan could have found
    recovered[3].stamp(images, draw)                  # images under triggers of class 3

`SCANNERS` lists the methods. A scanner of your own is a subclass of `Scanner` with one hook; see
`doorward.scanning.base`. Clean models of the same kind turn the statistic into a p-value
(`controls_from`).
"""

# Importing a scanner files it in SCANNERS.
from doorward.scanning.ban import NeuronNoise
from doorward.scanning.base import SCANNERS, Finding, Look, Scanner, ScanResult, scanner
from doorward.scanning.cleanse import NeuralCleanse
from doorward.scanning.controls import Controls
from doorward.scanning.marginal import MaximumMargin
from doorward.scanning.mesa import Mesa, PatchDistribution
from doorward.scanning.mesa.reference import MesaReference
from doorward.scanning.pixel import PixelInversion
from doorward.scanning.recovered import RECOVERED, Recovered, load_recovered, save_recovered
from doorward.scanning.running import DEFAULT, controls_from, scan
from doorward.scanning.stamps import Perturbation, Stamp

__all__ = [
    "DEFAULT",
    "RECOVERED",
    "SCANNERS",
    "Controls",
    "Finding",
    "Look",
    "MaximumMargin",
    "Mesa",
    "MesaReference",
    "NeuralCleanse",
    "NeuronNoise",
    "PatchDistribution",
    "Perturbation",
    "PixelInversion",
    "Recovered",
    "ScanResult",
    "Scanner",
    "Stamp",
    "controls_from",
    "load_recovered",
    "save_recovered",
    "scan",
    "scanner",
]
