"""Signed requests: a signature that another implementation of Amazon's rules finds right, or a clear refusal."""

import hashlib
import hmac
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from aiohttp import web
from tests.integration.upstream import Asked, Upstream
from tests.providers.oracles import needs

from greenroom.actors.events import ProviderFailed
from greenroom.actors.pool.signing import AwsSigner
from greenroom.actors.settings import ProviderSettings, Retries, Settings, StorageSettings
from greenroom.runtime import Runtime

pytestmark = pytest.mark.anyio
KEY_ID, KEY, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session/token=="
BODY = b'{"messages":[]}'
URL = "https://bedrock-runtime.eu-west-1.amazonaws.com/model/anthropic.claude%3A0/converse"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)


def signature(url: str, headers: Mapping[str, str], body: bytes, region: str) -> str:
    """The Authorization header by the letter of "Create a signed AWS API request"."""
    parts = urlsplit(url)
    signed = {
        "host": parts.netloc,
        "x-amz-date": headers["X-Amz-Date"],
        "x-amz-security-token": headers["X-Amz-Security-Token"],
    }
    canonical = "\n".join(
        [
            "POST",
            quote(parts.path, safe="/-_.~"),
            "",
            *(f"{name}:{value}" for name, value in signed.items()),
            "",
            ";".join(signed),
            hashlib.sha256(body).hexdigest(),
        ]
    )
    day = headers["X-Amz-Date"][:8]
    scope = f"{day}/{region}/bedrock/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = "\n".join(["AWS4-HMAC-SHA256", headers["X-Amz-Date"], scope, digest])
    key = f"AWS4{KEY}".encode()
    for word in (day, region, "bedrock", "aws4_request", to_sign):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return f"AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope}, SignedHeaders={';'.join(signed)}, Signature={key.hex()}"


@needs("botocore")
async def test_a_signature_is_the_one_that_amazons_rules_give() -> None:
    headers = await AwsSigner(URL).headers("POST", URL, BODY)
    assert headers["X-Amz-Security-Token"] == TOKEN
    assert headers["Authorization"] == signature(URL, headers, BODY, "eu-west-1")
    other = await AwsSigner(URL).headers("POST", URL, BODY + b" ")
    assert other["Authorization"] != headers["Authorization"]


@needs("botocore")
@pytest.mark.parametrize(
    ("base_url", "region"),
    [
        ("https://bedrock-runtime.eu-west-1.amazonaws.com", "eu-west-1"),
        ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("https://bedrock.eu-west-3.amazonaws.com", "eu-west-3"),
        ("https://vpce-1.bedrock-runtime.us-west-2.vpce.amazonaws.com", "us-west-2"),
        ("http://127.0.0.1:4566", "sa-east-1"),
    ],
)
async def test_the_region_is_the_endpoints(
    base_url: str, region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "sa-east-1")
    headers = await AwsSigner(base_url).headers("POST", f"{base_url}/model/m/converse", BODY)
    assert f"/{region}/bedrock/" in headers["Authorization"]


@needs("botocore")
async def test_no_credentials_are_a_refusal_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(
        ProviderFailed, match="no AWS credentials were found: set AWS_ACCESS_KEY_ID"
    ) as failed:
        await AwsSigner(URL).headers("POST", URL, BODY)
    assert failed.value.error.kind == "authentication"


@pytest.mark.skipif(importlib.util.find_spec("botocore") is not None, reason="botocore is installed")
async def test_a_missing_botocore_is_a_refusal_that_says_what_to_do() -> None:
    with pytest.raises(ProviderFailed, match=r"pip install 'greenroom\[bedrock\]'") as failed:
        await AwsSigner(URL).headers("POST", URL, BODY)
    assert failed.value.error.kind == "authentication"


@needs("botocore")
async def test_a_call_is_signed_as_it_is_sent_and_the_key_stays_here(tmp_path: Path) -> None:
    async def serve(asked: Asked) -> web.StreamResponse:
        return web.json_response(
            {
                "output": {"message": {"role": "assistant", "content": [{"text": "Hi."}]}},
                "stopReason": "end_turn",
                "usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5},
            }
        )

    async with Upstream(serve) as upstream:
        origin = upstream.base_url.removesuffix("/v1")
        provider = ProviderSettings(
            base_url=origin, wire="bedrock-converse", sign="aws", api_key_env="AWS_BEARER_TOKEN_BEDROCK"
        )
        settings = Settings(
            providers={"bedrock": provider},
            retries=Retries(attempts=1),
            storage=StorageSettings(url=f"sqlite:///{tmp_path / 'greenroom.db'}"),
        )
        async with Runtime(settings, environ={}) as rt:
            assert (await rt.chat("bedrock/a:0", "Hello?")).text == "Hi."
    (asked,) = upstream.asked
    assert asked.request.raw_path == "/model/a%3A0/converse"
    body = await asked.request.read()
    ours = signature(origin + asked.request.raw_path, asked.headers, body, "us-east-1")
    assert asked.headers["Authorization"] == ours
    assert KEY not in str(asked.headers)
