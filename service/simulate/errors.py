"""Errors of a simulation.

ServiceError
└── SimulationError           the simulation cannot go on
    └── RequestFailedError    the server could not be reached, or answered with an error
        └── NotThereError     it does not have what was asked for
"""

from __future__ import annotations

from service.errors import ServiceError


class SimulationError(ServiceError):
    """The simulation cannot go on; the message tells the reader what to do."""


class RequestFailedError(SimulationError):
    """The server could not be reached, or answered with an error."""


class NotThereError(RequestFailedError):
    """The server does not have what was asked for."""
