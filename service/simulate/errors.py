"""Errors of a simulation.

SimulationError
└── RequestFailedError    the server could not be reached, or answered with an error
"""

from __future__ import annotations


class SimulationError(Exception):
    """The simulation cannot go on; the message tells the reader what to do."""


class RequestFailedError(SimulationError):
    """The server could not be reached, or answered with an error."""
