"""How replies are drawn and whose they are: what requests for chats and for texts have alike.

``top_k``, ``min_p`` and ``repetition_penalty`` are not OpenAI's; other servers take them too.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from models.types import Sampling
from service.schemas.bodies import Lenient

ANY_SEED = -1
"""The seed by which front ends say that they want none."""

LEAST_TEMPERATURE = 0.01
"""Below it the most probable token is drawn, as at 0."""


def as_list(stop: Any) -> Any:
    """Turn a single stop string into a list."""
    return [stop] if isinstance(stop, str) else stop


def or_greedy(temperature: float) -> float:
    """Return 0 for temperatures so low that logits divided by them are no longer useful numbers."""
    return 0.0 if temperature < LEAST_TEMPERATURE else temperature


User = Annotated[str, Field(max_length=256)]


TokenId = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,8})$")]


class StreamOptions(Lenient):
    """How a stream ends; ``include_obfuscation`` pads the events of OpenAI's own server."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Sampled(Lenient):
    """The fields of every request for replies."""

    model: str
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2), AfterValidator(or_greedy)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.1, le=10)] = 1.0
    logit_bias: Annotated[
        dict[TokenId, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)
    ] = Field(default_factory=dict)
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=256)]],
        Field(max_length=4),
        BeforeValidator(as_list),
    ] = Field(default_factory=list)
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1, le=4)] = 1
    user: User = ""
    metadata: Annotated[
        dict[
            Annotated[str, Field(max_length=64)],
            Annotated[str, Field(max_length=512)],
        ],
        Field(max_length=16),
    ] = Field(default_factory=dict)
    store: bool = True
    safety_identifier: User = ""

    def sampling(self, max_tokens: int) -> Sampling:
        """Return how tokens are drawn; a ``top_k`` of -1 sets no limit, as 0 does."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=max_tokens,
            stop=tuple(self.stop),
            seed=None if self.seed == ANY_SEED else self.seed,
            top_k=max(0, self.top_k),
            min_p=self.min_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            logit_bias=tuple((int(token), bias) for token, bias in self.logit_bias.items()),
        )

    @property
    def person(self) -> str:
        """Who asks; ``safety_identifier`` has taken the place of ``user`` in OpenAI's API."""
        return self.user or self.safety_identifier
