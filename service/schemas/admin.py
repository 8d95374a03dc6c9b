"""What operators' requests may contain, checked strictly: in bodies, and in query strings."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from feedback.types import is_event_id
from models.versions import is_version_id
from service.schemas.bodies import Body

MOST_WAIT_SECONDS = 300.0


def _version(text: str) -> str:
    if not is_version_id(text):
        raise ValueError(
            "This is neither a version's id, such as v000012-3fa9c1d2e4b7, nor `base`."
        )
    return text


def _event(text: str) -> str:
    if not is_event_id(text):
        raise ValueError("This is not an entry's id, such as 1700000000000-0.")
    return text


Version = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_version)]
Why = Annotated[str, Field(max_length=500)]
Wait = Annotated[
    float,
    Field(
        ge=0,
        le=MOST_WAIT_SECONDS,
        description="Seconds to wait for every replica to serve the change; 0 = do not wait.",
    ),
]
DryRun = Annotated[bool, Field(description="Say what would change, and change nothing.")]


class QueryParams(BaseModel):
    """Base of query strings: no unknown names; numbers and booleans come as text."""

    model_config = ConfigDict(extra="forbid")


class ChangeRequest(Body):
    """What the body of every change of the rollout may say."""

    why: Why = "by hand"
    wait: Wait = 0.0


class ActivateRequest(ChangeRequest):
    """The body of POST /admin/rollout/activate."""

    version: Version
    expected_live: Version | None = None


class RollbackRequest(ChangeRequest):
    """The body of POST /admin/rollout/rollback; all of it may be left out."""

    to: Version | None = None
    expected_live: Version | None = None
    dry_run: DryRun = False


class ConfirmRequest(ChangeRequest):
    """The body of POST /admin/rollout/confirm."""

    version: Version
    expected_confirmed: Version | None = None


class CanaryRequest(ChangeRequest):
    """The body of POST /admin/rollout/canary."""

    version: Version
    fraction: Annotated[float, Field(gt=0, le=1, description="Share of the users.")]
    expected_live: Version | None = None


class KillRequest(ChangeRequest):
    """The body of POST /admin/rollout/kill; all of it may be left out."""

    dry_run: DryRun = False


class StopCanaryParams(QueryParams):
    """The query of DELETE /admin/rollout/canary, whose body proxies may drop."""

    why: Why = "by hand"
    wait: Wait = 0.0
    expected: Version | None = None
    dry_run: DryRun = False


class ListParams(QueryParams):
    """The query of a list."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class AuditParams(ListParams):
    """The query of the audit; ``next`` of one answer is ``before`` of the next request."""

    before: Annotated[str, AfterValidator(_event)] | None = None


class VersionAuditParams(AuditParams):
    """The query of the whole audit."""

    version: Version | None = None


class TextParams(QueryParams):
    """The query of what may show what people wrote."""

    texts: bool = False


class KeyRequest(Body):
    """The body of POST /admin/keys."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    scopes: list[Literal["chat", "admin"]] = Field(["chat"], min_length=1)
