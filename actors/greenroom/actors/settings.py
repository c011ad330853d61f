"""What is configured, as Structs. `greenroom.runtime.config` loads them from `greenroom.toml` and the environment.

Unknown fields are refused where the file is decoded. Secrets never stand here: a provider names the environment
variable or the file that holds its key, and the key itself travels as a `Secret`, which does not print.
"""

from datetime import date
from typing import Annotated, Literal

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0, le=30 * 86_400)]
"""Thirty days at most: a wait without an end (TOML has `inf`) would be a call that never ends."""
Positive = Annotated[int, Meta(ge=1)]
TokensCounted = Literal["arrival", "end"]
PerMinute = Annotated[int, Meta(ge=1, le=1_000_000_000_000)]
_MOST_FOUND_OUT = 256
UsdPerMillion = Annotated[str, Meta(pattern=r"^\d+(\.\d+)?$")]
"""Dollars per million tokens as a decimal string, so that no rate is ever a binary fraction."""
UrlQuery = Annotated[str, Meta(pattern=r"^[\w.~-]+=[\w.~-]*(&[\w.~-]+=[\w.~-]*)*$")]
"""What stands behind the question mark of a URL."""
UsdEach = Annotated[str, Meta(pattern=r"^\d{1,2}(\.\d+)?$")]
"""Dollars for one, as a decimal string: below a hundred."""
Multiplier = Annotated[str, Meta(pattern=r"^\d(\.\d{1,9})?$")]
"""What a price is multiplied by, as a decimal string: below ten."""
Usd = Annotated[str, Meta(pattern=r"^\d{1,6}(\.\d+)?$")] | Annotated[float, Meta(ge=0, le=1_000_000)]
"""Dollars, `"0.50"` or `0.50`: read by way of its text, so that it is what was written."""


class Secret:
    """A key that neither `repr`, `str`, a log nor an encoder shows; `reveal()` is the one way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __bool__(self) -> bool:
        return bool(self._value)


class _Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A table of the configuration file."""


class Limits(_Section, frozen=True):
    """What a provider allows, all its models together. None: learned from its answers, where they tell.

    `concurrency` is how many requests may be in flight; "auto": found out by how the server bears them.
    `tokens_counted`: "arrival" if the prompt and `max_tokens` are charged when a request arrives, "end" if what was used is
    when it ends; None: as its answers tell, and else on arrival.
    """

    concurrency: Annotated[int, Meta(ge=1, le=1_000_000)] | Literal["auto"] = 256
    requests_per_min: PerMinute | None = None
    tokens_per_min: PerMinute | None = None
    input_tokens_per_min: PerMinute | None = None
    output_tokens_per_min: PerMinute | None = None
    tokens_counted: TokensCounted | None = None

    @property
    def most_in_flight(self) -> int:
        """So many requests at once, however well the server bears them."""
        return _MOST_FOUND_OUT if self.concurrency == "auto" else self.concurrency


class Stalls(_Section, frozen=True):
    """How long a call may be silent, per stage. None of them can be infinite.

    `gap_s` is the longest silence within an answer. In a stream only content breaks it, keep-alives do not; a model
    may think for that long.
    """

    connect_s: Seconds = 10.0
    first_byte_s: Seconds = 600.0
    first_byte_streamed_s: Seconds = 300.0
    gap_s: Seconds = 300.0
    total_s: Seconds = 3600.0


class Retries(_Section, frozen=True):
    """The one retry policy: exponential backoff with full jitter, under the provider's own Retry-After.

    `attempts` counts the first one. A Retry-After beyond `max_retry_after_s` or the call's deadline is not waited for.
    However many calls fail, a provider gets no more retries than `budget_per_s` each second and `budget_share` for
    each call that was begun.
    """

    attempts: Positive = 6
    backoff_base_s: Seconds = 0.5
    backoff_max_s: Seconds = 30.0
    max_retry_after_s: Seconds = 300.0
    budget_per_s: Annotated[float, Meta(ge=0.01, le=100_000)] = 50.0
    budget_share: Annotated[float, Meta(ge=0, le=100)] = 0.2


class RateSettings(_Section, frozen=True):
    """Dollars per million tokens, by class. None: what the class costs that it belongs to, cached input as input."""

    input: UsdPerMillion
    output: UsdPerMillion
    cached: UsdPerMillion | None = None
    cache_write: UsdPerMillion | None = None
    cache_write_1h: UsdPerMillion | None = None
    reasoning: UsdPerMillion | None = None
    audio_input: UsdPerMillion | None = None
    audio_output: UsdPerMillion | None = None
    image_input: UsdPerMillion | None = None
    image_output: UsdPerMillion | None = None


class TierSettings(RateSettings, frozen=True, kw_only=True):
    """What all tokens of a request cost whose input is larger than `above_tokens`."""

    above_tokens: Positive


class PriceSettings(RateSettings, frozen=True):
    """Prices of a model that the price table does not know, or knows otherwise.

    `request_usd` is a fee for each request, `web_search_usd` and `file_search_usd` for each search that the provider
    makes. `batch_multiplier` is what the provider's own batches cost, "0.5" being half; `service_tiers` likewise what
    each of its service tiers costs, by its name.
    """

    tiers: tuple[TierSettings, ...] = ()
    request_usd: UsdEach | None = None
    web_search_usd: UsdEach | None = None
    file_search_usd: UsdEach | None = None
    batch_multiplier: Multiplier | None = None
    service_tiers: dict[str, Multiplier] = {}


class PriceTableSettings(_Section, frozen=True):
    """Where published prices come from: the table that is installed, or one that is fetched `daily`, in the background.

    `url` is a mirror of the table; None: where genai-prices publishes it.
    """

    refresh: Literal["never", "daily"] = "never"
    url: str | None = None


class Capabilities(_Section, frozen=True):
    """What a model can do and which options it takes. None: not known.

    `chat` is whether it answers messages at all; `temperature` stands for `top_p` as well, `penalties` for both of
    them, `logprobs` for `top_logprobs`, `tools` for `tool_choice`; `reasoning` is whether it thinks before it answers,
    `reasoning_effort` whether it is told how much.
    """

    chat: bool | None = None
    embeddings: bool | None = None
    vision: bool | None = None
    tools: bool | None = None
    parallel_tool_calls: bool | None = None
    json_schema: bool | None = None
    json_object: bool | None = None
    reasoning: bool | None = None
    reasoning_effort: bool | None = None
    temperature: bool | None = None
    penalties: bool | None = None
    logprobs: bool | None = None
    seed: bool | None = None
    stop: bool | None = None


class ModelSettings(Capabilities, frozen=True):
    """What is configured of a model, over whatever else is known of it.

    `quality`, from 0 to 100, is your own order for the strategy `best`; a model that has none counts as 50.
    """

    context_tokens: Positive | None = None
    max_output_tokens: Positive | None = None
    retires: date | None = None
    quality: Annotated[float, Meta(ge=0, le=100)] | None = None


class BreakerSettings(_Section, frozen=True):
    """When a provider is left alone: after so many `failures` in a row, and no fewer than calls in flight to it, for
    `cool_down_s`, and twice as long each time that the one call which is then let through fails too, up to
    `cool_down_max_s`.
    """

    failures: Positive = 10
    cool_down_s: Seconds = 5.0
    cool_down_max_s: Seconds = 60.0


class LocalServing(_Section, frozen=True):
    """How models on this machine are run: `[providers.local.serve]`.

    `models` are names of one's own for what is asked: the path of a GGUF file or of a folder that transformers saved, or
    `hf:ORG/NAME`. At most `max_loaded` models are in memory at once; one that nobody asks for `idle_s` is unloaded;
    `start_s` is how long loading one may take. `context_tokens` is the window of each request in flight, of which there
    are `limits.concurrency`; None: the model's own, at most 8192. `threads` and `gpu_layers` None: as llama.cpp finds best.
    """

    models: dict[str, str] = {}
    max_loaded: Positive = 2
    idle_s: Seconds = 900.0
    start_s: Seconds = 600.0
    context_tokens: Positive | None = None
    threads: Positive | None = None
    gpu_layers: Annotated[int, Meta(ge=0)] | None = None


class ProviderSettings(_Section, frozen=True):
    """One provider: where it is, which wire it speaks, which key it takes, what it allows.

    `free` means nothing is charged (local hosts); without it a model that has no price is refused. `stream_usage`
    is whether the host takes `stream_options`; `stream_end = "finish_reason"` is for hosts that leave `[DONE]` out.
    `embeddings_base64` is whether vectors are asked for as base64, which costs an eighth of reading JSON numbers.
    `counts_tokens` is whether a host of chat completions has OpenAI's `/responses/input_tokens` too.
    `base_url_env` is the variable that holds the address, for hosts that have one for each customer; `query` is added to
    every URL (`api-version=2024-10-21`), `key_header` is what the key travels in on OpenAI's wires.
    `api_key_env_else` is looked at where `api_key_env` is not set. `sign = "aws"` has requests signed with the
    process's AWS credentials instead of sending a key. `api_version` is of Anthropic's wire alone; None: the newest.
    `idempotency_header` names a request, the same over its attempts, for hosts and gateways that answer a repeated one from
    memory; of the hosts known here none says that it does.
    `proxy` is an HTTP proxy; None: what `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say, unless `trust_env` is false. It may
    need a password, which stands in the variable alone. `ca_file` holds certificates (PEM) that are trusted besides the
    system's. `warm_connections` are opened before the first call.
    `serve` is of `local` alone, whose models are run here; it has no address of its own.
    `models` says what is known of single models, `*` of all that are not named.
    """

    base_url: str
    wire: Literal[
        "openai-chat", "anthropic-messages", "gemini", "ollama", "openai-responses", "bedrock-converse"
    ] = "openai-chat"
    api_version: Literal["2023-06-01", "2026-10-21"] | None = None
    api_key_env: str | None = None
    api_key_env_else: str | None = None
    api_key_file: str | None = None
    key_header: Literal["authorization", "api-key"] = "authorization"
    base_url_env: str | None = None
    query: UrlQuery | None = None
    sign: Literal["aws"] | None = None
    idempotency_header: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}$")] | None = None
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    stream_usage: bool = True
    stream_end: Literal["done", "finish_reason"] = "done"
    embeddings_base64: bool = False
    counts_tokens: bool = False
    free: bool = False
    default_model: str | None = None
    limits: Limits = Limits()
    stalls: Stalls = Stalls()
    breaker: BreakerSettings = BreakerSettings()
    proxy: str | None = None
    trust_env: bool = True
    ca_file: str | None = None
    warm_connections: Annotated[int, Meta(ge=0, le=1000)] = 0
    prices: dict[str, PriceSettings] = {}
    models: dict[str, ModelSettings] = {}
    price_provider: str | None = None
    serve: LocalServing | None = None


class StorageSettings(_Section, frozen=True):
    """Where everything durable is kept; None: `greenroom.db` in the user's data directory."""

    url: str | None = None


class Caps(_Section, frozen=True):
    """Hard caps in dollars: in all, per day, per month. Days and months are UTC. None: no cap."""

    total_usd: Usd | None = None
    day_usd: Usd | None = None
    month_usd: Usd | None = None


class BudgetSettings(Caps, frozen=True):
    """What may be spent: by everything together, and by single keys and tags.

    `greenroom run` asks before it begins a job that may cost more than `confirm_above_usd`, where a terminal is there.
    """

    keys: dict[str, Caps] = {}
    tags: dict[str, Caps] = {}
    confirm_above_usd: Usd = 10.0


class Supervision(_Section, frozen=True):
    """How many restarts within `period_s` each supervisor of greenroom's own tree bears; one more, and it gives up.

    Its parent begins it again, with all that ran under it. When the root gives up, the runtime has failed: every call
    and every job is told so.
    """

    intensity: Annotated[int, Meta(ge=0)] = 10
    period_s: Seconds = 5.0


class SessionLimits(_Section, frozen=True):
    """How long a session stays in memory that nobody speaks in, and how many may be there before the idlest go to sleep.

    A sleeping session is on disk, and wakes when it is spoken to.
    """

    idle_s: Seconds = 300.0
    max_awake: Positive = 10_000


class AliasSettings(_Section, frozen=True):
    """A name of one's own for models: the one that is asked, and those that take its place when it fails, in their order.

    `free_to_paid` is whether a model that costs may take the place of one that does not.
    """

    models: tuple[str, ...]
    free_to_paid: bool = False


class Retention(_Section, frozen=True):
    """After how many days `greenroom purge` removes what nobody uses; None: never. Spend is kept for good, since budgets
    count it.
    """

    sessions_days: Positive | None = None
    jobs_days: Positive | None = None


class CacheSettings(_Section, frozen=True):
    """Answers that are kept for questions asked again, in memory. `enabled` is for calls that do not say themselves."""

    enabled: bool = False
    ttl_s: Seconds = 3600.0
    max_bytes: Positive = 64 * 1024 * 1024


class TelemetrySettings(_Section, frozen=True):
    """Traces and metrics for OpenTelemetry (extra `otel`), with neither prompts nor answers in them.

    `otlp_endpoint` is a collector's base URL, OTLP over HTTP; None: the providers that the program has set up itself.
    `interval_s` is how often metrics are sent.
    """

    otel: bool = False
    otlp_endpoint: str | None = None
    service_name: str = "greenroom"
    interval_s: Seconds = 15.0


class Settings(_Section, frozen=True):
    """The whole of `greenroom.toml`.

    `discover_local` is whether local servers are asked if they answer where no provider is configured and no key set.
    `aliases` are names of one's own for models.
    """

    default_model: str | None = None
    discover_local: bool = True
    providers: dict[str, ProviderSettings] = {}
    aliases: dict[str, str | AliasSettings] = {}
    storage: StorageSettings = StorageSettings()
    retries: Retries = Retries()
    budgets: BudgetSettings = BudgetSettings()
    supervision: Supervision = Supervision()
    sessions: SessionLimits = SessionLimits()
    retention: Retention = Retention()
    cache: CacheSettings = CacheSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    prices: PriceTableSettings = PriceTableSettings()
