"""Settings of the HTTP service, on top of the record's and the models' settings."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from feedback.settings import FeedbackSettings
from models.settings import ModelSettings


class ServiceSettings(FeedbackSettings, ModelSettings):
    """Where the API listens, what a request may ask for, and how it follows the rollout."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 = any free one.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Web origins of other pages that may call the API, separated by commas."
    )
    max_body_bytes: int = Field(1 << 20, ge=1024, description="Largest request body.")
    default_max_tokens: int = Field(
        256, ge=1, description="Most tokens of a reply when the request sets no limit."
    )
    long_replies: Literal["cut", "refuse"] = Field(
        "cut",
        description="What becomes of a `max_tokens` that does not fit the context beside the "
        "prompt: it is cut to what fits, or the request is refused.",
    )
    unknown_fields: Literal["ignore", "refuse"] = Field(
        "ignore",
        description="What becomes of fields of a chat request that OpenAI's API does not have: "
        "they are ignored and named in `x-ignored-fields`, or the request is refused.",
    )
    feedback_token_ttl: timedelta = Field(
        timedelta(days=1),
        ge=timedelta(0),
        description="How long the token of a reply lets a browser vote on it; 0 = none are made.",
    )
    queue_timeout: timedelta = Field(
        timedelta(seconds=30),
        gt=timedelta(0),
        description="How long a request may wait for its first token.",
    )
    request_timeout: timedelta = Field(
        timedelta(seconds=300), gt=timedelta(0), description="How long a whole reply may take."
    )
    heartbeat: timedelta = Field(
        timedelta(seconds=15), description="Time between the keep-alive comments of a stream."
    )
    record_timeout: timedelta = Field(
        timedelta(seconds=1),
        description="How long a chat waits for Redis before it goes on without.",
    )
    poll_interval: timedelta = Field(
        timedelta(seconds=0.5), description="How often a replica reads the rollout."
    )
    pinned_versions: int = Field(
        4,
        ge=1,
        description="How many versions that requests named stay loaded beside the live one.",
    )
    drain_delay: timedelta = Field(
        timedelta(0),
        description="How long /readyz answers 503 after SIGTERM, before the port closes.",
    )
    drain_timeout: timedelta = Field(
        timedelta(seconds=30),
        description="How long replies in flight may still take after drain_delay.",
    )

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip().rstrip("/") for part in value.split(",") if part.strip())
        return value

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @property
    def local_url(self) -> str:
        """The URL under which this machine reaches the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address without port, can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
