"""Every way to tamper with a chain that the verifier's rules are there to find."""

from __future__ import annotations

import inspect

from tests.support.tampering_chain import ChainTampers
from tests.support.tampering_counting import CountingTampers
from tests.support.tampering_decisions import DecisionTampers
from tests.support.tampering_version import VersionTampers


class Tamper(ChainTampers, VersionTampers, CountingTampers, DecisionTampers):
    """All changes; those of each scope are in the module of its name."""


#: Names of the cases.
CASES = sorted(name for name, _ in inspect.getmembers(Tamper, inspect.isfunction) if name[:1] == "r")
