"""The command line: one file per group of commands, thin over the Python API.

::

    doorward demo                                               # the life of a model, in minutes
    doorward train --data digits --arch resnet8 --out digits.model
    doorward eval digits.model --data digits --json | jq .accuracy

Exit codes: 0 yes; 1 the answer is no (not verified, signature bad); 2 the call was wrong or could
not be carried out, and one paragraph on stderr says why and what to do; 3 Doorward itself failed,
with a traceback to report.
"""

from doorward.cli.root import app, main

__all__ = ["app", "main"]
