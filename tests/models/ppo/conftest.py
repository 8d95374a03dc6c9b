"""Lets these tests import the oracle and the random batches that lie beside them."""

from __future__ import annotations
