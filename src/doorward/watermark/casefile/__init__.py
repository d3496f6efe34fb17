"""The folder for the court: every paper of a case under one roof, checked, with what each shows.

    write_case("case", claim="claim.json", public="ada.pub.json",
               stamps=["claim.tsr"], authorities="roots.pem",
               transcripts=[("transcript.json", "judge.pub.json")])
    check_case("case").findings

Nothing secret belongs into it: all papers are read, and a sealed key is none of them. Whoever gets
the folder checks it offline, without the key and without asking the owner; who people are
(fingerprints) they have to know from a source of their own.
"""

from doorward.watermark.casefile.checking import CaseResult, Finding, check_case
from doorward.watermark.casefile.writing import write_case

__all__ = ["CaseResult", "Finding", "check_case", "write_case"]
