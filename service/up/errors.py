"""Why the parts cannot be started.

ServiceError
└── UpError  another one runs on the data folder, a port is in use, or a part does not start
"""

from __future__ import annotations

from service.errors import ServiceError


class UpError(ServiceError):
    """The parts cannot be started; the message tells what to do."""
