"""Whom the questions are put to: every provider that greenroom has a codec for, as a row of its configuration."""

from pathlib import Path

from msgspec import structs

from greenroom.actors.providers.hosts import HOSTS
from greenroom.actors.settings import BreakerSettings, ProviderSettings, Retries, Settings, StorageSettings

BEDROCK = ProviderSettings(base_url="", wire="bedrock-converse")
RESPONSES = ProviderSettings(base_url="", wire="openai-responses")
OLLAMA = ProviderSettings(base_url="", wire="ollama")

PROVIDERS: dict[str, tuple[ProviderSettings, str]] = {
    "openai": (HOSTS["openai"], "/v1"),
    "openai-responses": (RESPONSES, "/v1"),
    "anthropic": (HOSTS["anthropic"], "/v1"),
    "anthropic-2023-06-01": (structs.replace(HOSTS["anthropic"], api_version="2023-06-01"), "/v1"),
    "gemini": (HOSTS["gemini"], "/v1"),
    "gemini-v1beta": (HOSTS["gemini"], "/v1beta"),
    "ollama": (OLLAMA, ""),
    "huggingface": (HOSTS["huggingface"], "/v1"),
    "bedrock": (BEDROCK, ""),
}
"""The row of each, and where on one server its API begins."""

ONE_OF_EACH_WIRE = ("openai", "openai-responses", "anthropic", "gemini", "ollama", "bedrock")
"""For what the others of a wire cannot differ in."""

NEVER_LEFT_ALONE = BreakerSettings(failures=1_000_000)
"""Failure upon failure is what some of these tests are made of."""

BELOW: dict[str, str] = {row.wire: below for row, below in PROVIDERS.values()}
"""The same for each wire."""


def settings_of(url: str, directory: Path, *names: str, retries: Retries | None = None) -> Settings:
    """Settings in which the providers of those names, or all of them, are at `url`, take no key and cost nothing."""
    return Settings(
        providers={
            name: structs.replace(
                row,
                base_url=url + below,
                api_key_env=None,
                api_key_env_else=None,
                free=True,
                breaker=NEVER_LEFT_ALONE,
            )
            for name, (row, below) in PROVIDERS.items()
            if name in names or not names
        },
        storage=StorageSettings(url=f"sqlite:///{directory / 'greenroom.db'}"),
        retries=retries or Retries(attempts=1),
    )
