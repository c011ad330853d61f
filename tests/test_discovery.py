"""Which providers are used and who answers: real servers that listen, refuse, stall and talk nonsense."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

import pytest
from msgspec import structs

from greenroom.actors.pool.connecting import is_local
from greenroom.actors.providers.hosts import HOSTS, LOCAL_HOSTS
from greenroom.actors.providers.listing import ListedModel
from greenroom.actors.settings import PriceSettings, ProviderSettings, Secret, Settings
from greenroom.runtime import discovery
from greenroom.runtime.config import ConfigError
from greenroom.runtime.discovery import Chosen, Lister, choose_providers, discover_local, probe

CANARY = "sk-canary-0123456789"
Serving = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serving) -> AsyncGenerator[str]:
    """A server whose every byte is the test's; yields its base URL."""
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            await serve(await reader.readuntil(b"\r\n\r\n"), writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


def answer(body: bytes, status: str = "200 OK", *headers: str) -> Serving:
    async def serve(request: bytes, writer: asyncio.StreamWriter) -> None:
        assert request.startswith(b"GET /v1/models HTTP/1.1\r\n")
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)

    return serve


LISTING = b'{"object":"list","data":[{"id":"a","object":"model"},{"id":"b/c"}]}'


def nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/v1"


class TestProbe:
    async def test_models_and_the_servers_clock(self) -> None:
        async with serving(answer(LISTING, "200 OK", "Date: Mon, 23 Nov 2026 12:00:00 GMT")) as url:
            found = await probe(ProviderSettings(base_url=f"{url}/"), None)
        assert (found.models, found.problem, found.status) == (("a", "b/c"), None, 200)
        assert found.date == "Mon, 23 Nov 2026 12:00:00 GMT"

    async def test_the_key_is_sent_and_its_refusal_names_where_to_mend_it(self) -> None:
        seen: list[bytes] = []

        async def refuse(request: bytes, writer: asyncio.StreamWriter) -> None:
            seen.append(request)
            await answer(b"{}", "401 Unauthorized")(request, writer)

        async with serving(refuse) as url:
            found = await probe(ProviderSettings(base_url=url, api_key_env="ACME_KEY"), Secret(CANARY))
        assert f"authorization: bearer {CANARY}".encode() in seen[0].lower()
        assert found.refuses_key
        assert found.problem == f"{url} refuses the key (401): mend ACME_KEY"

    @pytest.mark.parametrize(
        ("serve", "said"),
        [
            (answer(b"", "404 Not Found"), "answers 404, no list of models"),
            (answer(b"", "302 Found", "Location: http://127.0.0.1:1/"), "answers 302, no list of models"),
            (answer(b"\xff\xfe{}"), "answers, but with no list of models"),
            (answer(b'{"data":[{"id":"caf\xe9"}]}'), "answers, but with no list of models"),
            (answer(b"<html>"), "answers, but with no list of models"),
            (answer(b"{}"), "answers, but with no list of models"),
            (answer(b"[" * 5000), "answers, but with no list of models"),
        ],
    )
    async def test_nonsense_is_told(self, serve: Serving, said: str) -> None:
        async with serving(serve) as url:
            found = await probe(ProviderSettings(base_url=url), None)
        assert found.models is None
        assert said in str(found.problem)

    async def test_geminis_shape(self) -> None:
        async with serving(answer(b'{"models":[{"name":"models/gemini-x","version":"1"}]}')) as url:
            assert (await probe(ProviderSettings(base_url=url), None)).models == ("gemini-x",)

    @pytest.mark.parametrize(
        ("wire", "path"),
        [
            ("anthropic-messages", b"/v1/models?limit=1000"),
            ("gemini", b"/v1/models?pageSize=1000"),
            ("ollama", b"/v1/api/tags"),
            ("openai-responses", b"/v1/models"),
        ],
    )
    async def test_each_wire_lists_its_models_at_a_place_of_its_own(
        self,
        wire: Literal["anthropic-messages", "gemini", "ollama", "openai-responses"],
        path: bytes,
    ) -> None:
        asked: list[bytes] = []

        async def listen(request: bytes, writer: asyncio.StreamWriter) -> None:
            asked.append(request.split()[1])
            await answer(b'{"models":[{"name":"m","context_length":9}]}')(
                b"GET /v1/models HTTP/1.1\r\n", writer
            )

        async with serving(listen) as url:
            found = await probe(ProviderSettings(base_url=url, wire=wire), None)
        assert asked == [path]
        assert (found.models, found.listed) == (("m",), (ListedModel("m", 9),))

    async def test_bedrocks_models_and_profiles_are_one_list(self) -> None:
        lists = {
            b"/v1/foundation-models": b'{"modelSummaries":[{"modelId":"a","inferenceTypesSupported":["ON_DEMAND"]},'
            b'{"modelId":"b","inferenceTypesSupported":["INFERENCE_PROFILE"]}]}',
            b"/v1/inference-profiles?maxResults=1000": b'{"inferenceProfileSummaries":[{"inferenceProfileId":"eu.b"}]}',
        }

        async def tell(request: bytes, writer: asyncio.StreamWriter) -> None:
            assert f"Authorization: Bearer {CANARY}".encode() in request
            body = lists.get(request.split()[1])
            again = b"GET /v1/models HTTP/1.1\r\n"
            await answer(body or b"", "200 OK" if body else "403 Forbidden")(again, writer)

        async with serving(tell) as url:
            host = structs.replace(HOSTS["bedrock"], base_url=url)
            assert (await probe(host, Secret(CANARY))).models == ("a", "eu.b")
            del lists[b"/v1/inference-profiles?maxResults=1000"]
            assert (await probe(host, Secret(CANARY))).models == ("a",)

    async def test_a_host_is_not_asked_for_its_list_as_often_as_a_program_likes(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(discovery, "LISTINGS_PER_MIN", 1)
        asked: list[bytes] = []

        async def tell(request: bytes, writer: asyncio.StreamWriter) -> None:
            asked.append(request)
            await answer(b'{"data": [{"id": "fast"}]}')(request, writer)

        async with serving(tell) as url:
            providers = {name: ProviderSettings(base_url=url) for name in ("acme", "other")}
            ask = Lister(Chosen(providers=providers, keys={}, default_model=None, how=""))
            assert [model.id for model in (await ask("acme")).models or ()] == ["fast"]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ask("acme"), 0.05)
            assert [model.id for model in (await ask("other")).models or ()] == ["fast"]
        assert len(asked) == 2

    async def test_who_may_not_list_models_may_ask_them_all_the_same(self) -> None:
        asked: list[bytes] = []

        async def refuse(request: bytes, writer: asyncio.StreamWriter) -> None:
            asked.append(request)
            await answer(b"", "403 Forbidden")(b"GET /v1/models HTTP/1.1\r\n", writer)

        async with serving(refuse) as url:
            host = structs.replace(HOSTS["bedrock"], base_url=url)
            found = await probe(host, Secret(CANARY))
        assert not found.refuses_key
        assert "does not list its models" in str(found.problem)
        assert len(asked) == 1

    async def test_no_http_at_all(self) -> None:
        async def babble(request: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example ESMTP\r\n\r\n")

        async with serving(babble) as url:
            found = await probe(ProviderSettings(base_url=url), None)
        assert found.models is None
        assert found.problem

    async def test_silence_ends(self) -> None:
        async def say_nothing(request: bytes, writer: asyncio.StreamWriter) -> None:
            await asyncio.Event().wait()

        async with serving(say_nothing) as url:
            found = await probe(ProviderSettings(base_url=url), None, timeout_s=0.05)
        assert found.problem == f"no answer from {url}/models within 0.05 s"

    async def test_a_body_without_end_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(discovery, "_MAX_LISTING_BYTES", 10_000)

        async def flood(request: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(b"x" * 5000)
                await writer.drain()

        async with serving(flood) as url:
            assert "no list of models" in str((await probe(ProviderSettings(base_url=url), None)).problem)

    async def test_nobody(self) -> None:
        url = nobody()
        found = await probe(ProviderSettings(base_url=url), None)
        assert found.status is None
        assert f"nobody answers at {url}" in str(found.problem)


@pytest.fixture
def no_local_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever listens on this machine's well-known ports is none of these tests' business."""
    monkeypatch.setattr(
        discovery,
        "LOCAL_HOSTS",
        {name: structs.replace(host, base_url=nobody()) for name, host in LOCAL_HOSTS.items()},
    )


@pytest.mark.usefixtures("no_local_servers")
class TestChoosing:
    async def test_nothing_is_simulated(self) -> None:
        chosen = await choose_providers(Settings(), {})
        assert (chosen.simulated, chosen.providers, chosen.default_model) == (True, {}, "sim/fast")

    async def test_local_servers_are_asked_at_once(self) -> None:
        """Each waits for the other's request: asked one after the other, none would be answered."""
        both = asyncio.Barrier(2)

        async def serve(request: bytes, writer: asyncio.StreamWriter) -> None:
            await both.wait()
            await answer(LISTING)(request, writer)

        async with AsyncExitStack() as stack:
            ollama = await stack.enter_async_context(serving(serve))
            lmstudio = await stack.enter_async_context(serving(serve))
            found = await discover_local({"OLLAMA_HOST": ollama, "LMSTUDIO_HOST": lmstudio})
        assert {name: probed.models for name, (_, probed) in found.items()} == {
            "ollama": ("a", "b/c"),
            "lmstudio": ("a", "b/c"),
            "llamacpp": None,
            "vllm": None,
        }

    async def test_a_local_server_is_used_and_its_first_model_asked(self) -> None:
        async with serving(answer(LISTING)) as url:
            chosen = await choose_providers(Settings(), {"OLLAMA_HOST": url})
        assert (list(chosen.providers), chosen.default_model) == (["ollama"], "ollama/a")
        assert chosen.providers["ollama"].free
        assert f"ollama at {url}" in chosen.how

    async def test_local_servers_are_not_asked_where_that_is_off(self) -> None:
        async with serving(answer(LISTING)) as url:
            chosen = await choose_providers(Settings(discover_local=False), {"OLLAMA_HOST": url})
        assert chosen.simulated

    async def test_a_server_without_models_is_passed_over(self) -> None:
        async with serving(answer(b'{"data":[]}')) as url:
            assert (await choose_providers(Settings(), {"OLLAMA_HOST": url})).simulated

    async def test_keys_win_over_local_servers(self) -> None:
        chosen = await choose_providers(Settings(), {"GROQ_API_KEY": "k", "OLLAMA_HOST": "127.0.0.1:1"})
        assert list(chosen.providers) == ["groq"]
        assert chosen.default_model == f"groq/{HOSTS['groq'].default_model}"
        assert chosen.keys["groq"].reveal() == "k"
        assert "GROQ_API_KEY" in chosen.how

    async def test_geminis_key_has_two_names(self) -> None:
        for environ in ({"GOOGLE_API_KEY": "k"}, {"GEMINI_API_KEY": "k", "GOOGLE_API_KEY": "other"}):
            chosen = await choose_providers(Settings(), environ)
            assert list(chosen.providers) == ["gemini"]
            assert chosen.keys["gemini"].reveal() == "k"
            assert next(iter(environ)) in chosen.how

    async def test_anthropics_address_is_given_without_its_version(self) -> None:
        environ = {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "https://proxy.example/"}
        chosen = await choose_providers(Settings(), environ)
        assert chosen.providers["anthropic"].base_url == "https://proxy.example/v1"

    async def test_a_vendors_address_may_be_another(self) -> None:
        async with serving(answer(LISTING)) as url:
            environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": url}
            chosen = await choose_providers(Settings(), environ)
        assert chosen.providers["openai"].base_url == url
        assert chosen.providers["openai"].max_tokens_field == "max_tokens"
        assert chosen.providers["openai"].free
        assert chosen.default_model == "openai/a"

    async def test_azure_is_used_where_its_address_is_known(self) -> None:
        environ = {"AZURE_OPENAI_API_KEY": "k", "OPENAI_API_KEY": "k"}
        assert list((await choose_providers(Settings(), environ)).providers) == ["openai"]
        environ["AZURE_OPENAI_ENDPOINT"] = "https://acme.openai.azure.com/"
        found = (await choose_providers(Settings(), environ)).providers["azure"]
        assert found.base_url == "https://acme.openai.azure.com/openai/v1"
        environ["AZURE_OPENAI_ENDPOINT"] = "https://acme.example/openai/deployments/d"
        found = (await choose_providers(Settings(), environ)).providers["azure"]
        assert found.base_url == "https://acme.example/openai/deployments/d"

    @pytest.mark.parametrize("name", ["OPENAI_BASE_URL", "OLLAMA_HOST"])
    async def test_an_address_variable_that_holds_none(self, name: str) -> None:
        environ = {name: "http://[::1"} | ({"OPENAI_API_KEY": "k"} if name.startswith("OPENAI") else {})
        with pytest.raises(ConfigError, match=f"{name} is 'http://\\[::1'; it must be like"):
            await choose_providers(Settings(), environ)

    async def test_a_refused_key_is_told_when_the_first_model_is_looked_for(self) -> None:
        async with serving(answer(b"", "403 Forbidden")) as url:
            environ = {"OPENAI_API_KEY": CANARY, "OPENAI_BASE_URL": url}
            with pytest.raises(ConfigError, match=r"refuses the key \(403\): mend OPENAI_API_KEY") as refused:
                await choose_providers(Settings(), environ)
        assert CANARY not in str(refused.value)

    async def test_the_configuration_wins(self) -> None:
        providers = {
            "acme": ProviderSettings(base_url="http://127.0.0.1:9/v1"),
            "dear": ProviderSettings(
                base_url="http://127.0.0.1:9/v1",
                prices={"*": PriceSettings(input="1", output="1")},
                default_model="m",
            ),
            "proxy": ProviderSettings(base_url="http://127.0.0.1:9/v1", price_provider="openai"),
        }
        chosen = await choose_providers(Settings(providers=providers), {"OPENAI_API_KEY": "k"})
        assert list(chosen.providers) == ["acme", "dear", "proxy"]
        # What is on this machine costs nothing, unless somebody says so.
        assert [chosen.providers[name].free for name in ("acme", "dear", "proxy")] == [True, False, False]
        assert chosen.default_model == "dear/m"


@pytest.mark.parametrize(
    ("variable", "given", "base_url"),
    [
        ("OLLAMA_HOST", "127.0.0.1", "http://127.0.0.1:11434/v1"),
        ("OLLAMA_HOST", "0.0.0.0:4000", "http://127.0.0.1:4000/v1"),
        ("OLLAMA_HOST", "http://gpu-box", "http://gpu-box:80/v1"),
        ("OLLAMA_HOST", "https://gpu-box/ollama/", "https://gpu-box:443/ollama"),
        ("OLLAMA_HOST", "[::]:4000", "http://[::1]:4000/v1"),
        ("LMSTUDIO_HOST", "gpu-box:1", "http://gpu-box:1/v1"),
    ],
)
async def test_where_local_servers_say_they_listen(
    monkeypatch: pytest.MonkeyPatch, variable: str, given: str, base_url: str
) -> None:
    async def silent(host: ProviderSettings, key: Secret | None) -> discovery.Probe:
        return discovery.Probe(problem="not asked")

    monkeypatch.setattr(discovery, "probe", silent)
    found = await discover_local({variable: given})
    assert found[variable.removesuffix("_HOST").lower()][0].base_url == base_url


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:1/v1", True),
        ("http://127.9.9.9", True),
        ("http://localhost", True),
        ("http://LOCALHOST:1", True),
        ("http://[::1]:1/v1", True),
        ("http://0.0.0.0", False),
        ("http://10.0.0.1", False),
        ("http://localhost.example", False),
        ("https://api.openai.com/v1", False),
    ],
)
def test_what_is_on_this_machine(url: str, local: bool) -> None:  # noqa: FBT001 - a table's column
    assert is_local(url) is local
