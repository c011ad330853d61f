"""The table of hosts that greenroom knows by name: one row each.

A row is what `[providers.NAME]` of the configuration would say. Hosts that take a key are used when its variable is
set; local ones when they answer. Base URLs, key variables and deviations are each vendor's own documentation, or what
its users met, November 2026. `default_model` stands only where the vendor keeps a name that means a current, cheap,
general model, and the price table knows it; elsewhere a model must be named.
"""

from msgspec import structs

from greenroom.actors.settings import Limits, LocalServing, ModelSettings, PriceSettings, ProviderSettings

HOSTS: dict[str, ProviderSettings] = {
    "openai": ProviderSettings(
        base_url="https://api.openai.com/v1",
        api_key_env="OPENAI_API_KEY",
        max_tokens_field="max_completion_tokens",  # max_tokens is refused by its reasoning models
        embeddings_base64=True,
        counts_tokens=True,
        default_model="gpt-5.4-mini",
    ),
    "anthropic": ProviderSettings(
        base_url="https://api.anthropic.com/v1",
        wire="anthropic-messages",
        api_key_env="ANTHROPIC_API_KEY",
        default_model="claude-haiku-5-5",
    ),
    "gemini": ProviderSettings(
        base_url="https://generativelanguage.googleapis.com/v1",
        wire="gemini",
        api_key_env="GEMINI_API_KEY",
        api_key_env_else="GOOGLE_API_KEY",
        default_model="gemini-3.5-flash-lite",
        price_provider="google",
    ),
    # One region of many: say `base_url` for another.
    "bedrock": ProviderSettings(
        base_url="https://bedrock-runtime.us-east-1.amazonaws.com",
        wire="bedrock-converse",
        api_key_env="AWS_BEARER_TOKEN_BEDROCK",
        price_provider="aws",
    ),
    "groq": ProviderSettings(
        base_url="https://api.groq.com/openai/v1",
        api_key_env="GROQ_API_KEY",
        max_tokens_field="max_completion_tokens",  # max_tokens is deprecated there
        default_model="openai/gpt-oss-20b",
    ),
    "mistral": ProviderSettings(
        base_url="https://api.mistral.ai/v1",
        api_key_env="MISTRAL_API_KEY",
        # It answers 422 to any name it does not know: max_completion_tokens and stream_options are among them. The
        # last chunk of a stream holds the usage unasked.
        stream_usage=False,
        default_model="mistral-small-latest",
    ),
    "openrouter": ProviderSettings(base_url="https://openrouter.ai/api/v1", api_key_env="OPENROUTER_API_KEY"),
    "together": ProviderSettings(base_url="https://api.together.xyz/v1", api_key_env="TOGETHER_API_KEY"),
    "fireworks": ProviderSettings(
        base_url="https://api.fireworks.ai/inference/v1", api_key_env="FIREWORKS_API_KEY"
    ),
    "deepseek": ProviderSettings(base_url="https://api.deepseek.com/v1", api_key_env="DEEPSEEK_API_KEY"),
    "xai": ProviderSettings(
        base_url="https://api.x.ai/v1",
        api_key_env="XAI_API_KEY",
        max_tokens_field="max_completion_tokens",  # max_tokens is deprecated there
        price_provider="x-ai",
    ),
    "perplexity": ProviderSettings(
        base_url="https://api.perplexity.ai",
        api_key_env="PERPLEXITY_API_KEY",
        # Every chunk holds the usage so far, and no [DONE] ends a stream.
        stream_usage=False,
        stream_end="finish_reason",
        default_model="sonar",
    ),
    "cerebras": ProviderSettings(
        base_url="https://api.cerebras.ai/v1",
        api_key_env="CEREBRAS_API_KEY",
        max_tokens_field="max_completion_tokens",
        default_model="gpt-oss-120b",
    ),
    # One address for each customer, who names a model by its deployment: a price is known where that is named alike.
    "azure": ProviderSettings(
        base_url="https://RESOURCE.openai.azure.com/openai/v1",
        base_url_env="AZURE_OPENAI_ENDPOINT",
        api_key_env="AZURE_OPENAI_API_KEY",
        key_header="api-key",
        max_tokens_field="max_completion_tokens",
    ),
    "sambanova": ProviderSettings(base_url="https://api.sambanova.ai/v1", api_key_env="SAMBANOVA_API_KEY"),
    "nebius": ProviderSettings(
        base_url="https://api.tokenfactory.nebius.com/v1",
        api_key_env="NEBIUS_API_KEY",
        price_provider="huggingface_nebius",  # whose router takes no more than the host itself
    ),
    # Its router names the host behind it in the model (`MODEL:together`), and charges what that host charges.
    "huggingface": ProviderSettings(base_url="https://router.huggingface.co/v1", api_key_env="HF_TOKEN"),
    "nvidia": ProviderSettings(base_url="https://integrate.api.nvidia.com/v1", api_key_env="NVIDIA_API_KEY"),
}

# A local server does one thing at a time, or many: how many shows.
_LOCAL = Limits(concurrency="auto")

LOCAL_HOSTS: dict[str, ProviderSettings] = {
    "ollama": ProviderSettings(base_url="http://127.0.0.1:11434/v1", free=True, limits=_LOCAL),
    "lmstudio": ProviderSettings(base_url="http://127.0.0.1:1234/v1", free=True, limits=_LOCAL),
    "llamacpp": ProviderSettings(base_url="http://127.0.0.1:8080/v1", free=True, limits=_LOCAL),
    "vllm": ProviderSettings(base_url="http://127.0.0.1:8000/v1", free=True, limits=_LOCAL),
}

RUN_HERE: dict[str, ProviderSettings] = {
    # Each model's process has an address of its own. Four requests at once, since each slot takes memory of its own;
    # transformers' server leaves `[DONE]` out.
    "local": ProviderSettings(
        base_url="http://127.0.0.1/v1",
        stream_end="finish_reason",
        free=True,
        limits=Limits(concurrency=4),
        serve=LocalServing(),
    ),
}
"""Providers whose servers greenroom runs itself. Always there: they are named in full, and start nothing before."""

SIMULATOR = "sim"
_SIMULATED = ModelSettings(vision=True, tools=True, json_schema=True, context_tokens=128_000)


def simulator(base_url: str) -> ProviderSettings:
    """The simulator's row. Its prices are invented, so that a rehearsal shows costs; nobody is charged."""
    return ProviderSettings(
        base_url=base_url,
        default_model="fast",
        limits=Limits(concurrency=1024),
        prices={
            "smart": PriceSettings(input="2.50", output="10.00", cached="1.25"),
            "*": PriceSettings(input="0.15", output="0.60", cached="0.075"),
        },
        models={
            "smart": structs.replace(_SIMULATED, context_tokens=400_000, quality=60.0),
            **dict.fromkeys(("echo", "classify", "chat"), ModelSettings()),
            "*": _SIMULATED,
        },
    )
