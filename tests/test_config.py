"""The configuration: every refusal names the place and what would be right, and no key is ever shown."""

from datetime import date
from pathlib import Path

import pytest

from greenroom.actors.providers.hosts import HOSTS, LOCAL_HOSTS
from greenroom.actors.settings import AliasSettings, Limits, ModelSettings, ProviderSettings, Settings
from greenroom.runtime.config import ConfigError, aliases_of, load_settings, read_key, settings_from

CANARY = "sk-canary-0123456789"


class TestLoading:
    def test_no_file_is_the_defaults(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert load_settings() == Settings()

    def test_the_file_in_the_working_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "greenroom.toml").write_text('default_model = "a/b"\n')
        assert load_settings().default_model == "a/b"

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"providers = [", "not TOML"),
            (b"default_model = 'caf\xe9'", "cannot be read"),
            (b"default_model = 'a'\ndefault_model = 'b'", "not TOML"),
        ],
    )
    def test_a_file_that_is_none_is_named(self, tmp_path: Path, content: bytes, said: str) -> None:
        path = tmp_path / "mine.toml"
        path.write_bytes(content)
        with pytest.raises(ConfigError) as refused:
            load_settings(path)
        assert str(refused.value).startswith(f"{path}: {said}")

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"mine\.toml: there is no such file"):
            load_settings(tmp_path / "mine.toml")

    def test_a_directory(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"cannot be read: .*directory"):
            load_settings(tmp_path)


class TestUnknownKeys:
    @pytest.mark.parametrize(
        ("data", "said"),
        [
            ({"defualt_model": "x"}, "unknown key defualt_model; did you mean default_model?"),
            ({"zebra": 1}, "unknown key zebra; known keys: default_model, "),
            ({"storage": {"urll": "x"}}, "unknown key storage.urll; did you mean url?"),
            ({"retries": {"atempts": 1}}, "unknown key retries.atempts; did you mean attempts?"),
            (
                {"providers": {"acme": {"base_url": "http://x", "limit": {}}}},
                "unknown key providers.acme.limit; did you mean limits?",
            ),
            (
                {"providers": {"openai": {"limits": {"request_per_min": 1}}}},
                "unknown key providers.openai.limits.request_per_min; did you mean requests_per_min?",
            ),
            (
                {"providers": {"acme": {"base_url": "http://x", "prices": {"m": {"inptu": "1"}}}}},
                "unknown key providers.acme.prices.m.inptu; did you mean input?",
            ),
        ],
    )
    def test_are_told_with_their_path_and_the_nearest(self, data: dict[str, object], said: str) -> None:
        with pytest.raises(ConfigError) as refused:
            settings_from(data, "greenroom.toml")
        assert str(refused.value).startswith(f"greenroom.toml: {said}")


class TestWrongValues:
    @pytest.mark.parametrize(
        ("data", "said"),
        [
            ({"default_model": 7}, "$.default_model"),
            ({"retries": {"attempts": 0}}, "Expected `int` >= 1 - at `$.retries.attempts`"),
            ({"retries": {"backoff_max_s": float("inf")}}, "$.retries.backoff_max_s"),
            ({"providers": "openai"}, "$.providers"),
            ({"providers": {"acme": 3}}, "$.providers"),
            ({"providers": {"acme": {}}}, "missing required field `base_url`"),
            ({"providers": {"azure": {}}}, "providers.azure needs its own base_url, like https://RESOURCE."),
            ({"providers": {"acme": {"base_url": "http://x", "wire": "soap"}}}, "Invalid enum value 'soap'"),
            ({"providers": {"openai": {"stalls": {"gap_s": -1}}}}, "gap_s"),
            ({"providers": {"openai": {"prices": {"m": {"input": "1e3", "output": "1"}}}}}, "input"),
        ],
    )
    def test_are_told_with_their_place(self, data: dict[str, object], said: str) -> None:
        with pytest.raises(ConfigError) as refused:
            settings_from(data, "greenroom.toml")
        assert said in str(refused.value)

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "localhost:8000",
            "ftp://x",
            "http://",
            "http://[::1",
            "http://x:99999",
            "http://ä.example",
            "a b",
        ],
    )
    def test_an_address_that_is_none(self, url: str) -> None:
        with pytest.raises(ConfigError) as refused:
            settings_from({"providers": {"acme": {"base_url": url}}}, "greenroom.toml")
        assert str(refused.value).startswith(
            f"greenroom.toml: providers.acme.base_url is {url!r}; it must be like"
        )

    @pytest.mark.parametrize(
        "url", [f"http://me:{CANARY}@x/v1", f"http://x/v1?key={CANARY}", f"http://x/#{CANARY}"]
    )
    def test_a_key_in_an_address_is_refused_and_not_shown(self, url: str) -> None:
        with pytest.raises(ConfigError, match="keys go in api_key_env") as refused:
            settings_from({"providers": {"acme": {"base_url": url}}}, "greenroom.toml")
        assert CANARY not in str(refused.value)

    @pytest.mark.parametrize("url", ["http://[::1]:8000/v1", "https://x.example", "http://127.0.0.1:1/a/b/"])
    def test_addresses(self, url: str) -> None:
        settings = settings_from({"providers": {"acme": {"base_url": url}}}, "greenroom.toml")
        assert settings.providers["acme"].base_url == url


class TestKnownRows:
    def test_need_only_say_what_differs(self) -> None:
        settings = settings_from({"providers": {"openai": {"default_model": "gpt-x"}}}, "x")
        row = HOSTS["openai"]
        assert settings.providers["openai"].default_model == "gpt-x"
        assert settings.providers["openai"].max_tokens_field == row.max_tokens_field
        assert settings.providers["openai"].base_url == row.base_url

    def test_are_merged_at_any_depth(self) -> None:
        """One limit said leaves the row's others as they were."""
        own = LOCAL_HOSTS["vllm"].limits
        assert own.concurrency != Limits().concurrency
        settings = settings_from({"providers": {"vllm": {"limits": {"requests_per_min": 60}}}}, "x")
        assert settings.providers["vllm"].limits == Limits(concurrency=own.concurrency, requests_per_min=60)
        assert settings.providers["vllm"].free


class TestKeys:
    HOST = ProviderSettings(base_url="http://x", api_key_env="ACME_KEY")

    def test_from_the_environment(self) -> None:
        key = read_key("acme", self.HOST, {"ACME_KEY": f" {CANARY}\n"})
        assert key is not None
        assert key.reveal() == CANARY

    def test_of_a_provider_that_takes_none(self) -> None:
        assert read_key("acme", ProviderSettings(base_url="http://x"), {}) is None

    @pytest.mark.parametrize("environ", [{}, {"ACME_KEY": ""}, {"ACME_KEY": " \n"}])
    def test_missing(self, environ: dict[str, str]) -> None:
        with pytest.raises(ConfigError, match="provider acme needs a key: set ACME_KEY, or api_key_file"):
            read_key("acme", self.HOST, environ)

    @pytest.mark.parametrize("value", [f"{CANARY}ü", f"{CANARY}\nX-Evil: 1", f"{CANARY}\0", f"{CANARY}\x7f"])
    def test_that_no_header_can_hold_in_either_place(self, tmp_path: Path, value: str) -> None:
        (tmp_path / "key").write_text(value)
        in_file = ProviderSettings(base_url="http://x", api_key_file=str(tmp_path / "key"))
        for host, environ in ((self.HOST, {"ACME_KEY": value}), (in_file, {})):
            with pytest.raises(ConfigError, match="characters that no HTTP header can") as refused:
                read_key("acme", host, environ)
            assert CANARY not in str(refused.value)

    def test_from_a_file_which_wins_over_the_environment(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text(f"{CANARY}\r\n")
        host = ProviderSettings(
            base_url="http://x", api_key_env="ACME_KEY", api_key_file=str(tmp_path / "key")
        )
        key = read_key("acme", host, {"ACME_KEY": "other"})
        assert key is not None
        assert key.reveal() == CANARY

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "is empty; write the key into it"),
            (b" \n", "is empty"),
            (b"\xff\xfe", "cannot be read"),
            (None, "cannot be read: .*No such file"),
        ],
    )
    def test_a_file_that_holds_none(self, tmp_path: Path, content: bytes | None, said: str) -> None:
        path = tmp_path / "key"
        if content is not None:
            path.write_bytes(content)
        host = ProviderSettings(base_url="http://x", api_key_file=str(path))
        with pytest.raises(ConfigError, match=f"provider acme: api_key_file .*key {said}"):
            read_key("acme", host, {})


class TestModelsAndAliases:
    def test_what_is_said_of_models(self) -> None:
        table = {
            "base_url": "http://127.0.0.1:9/v1",
            "models": {"m": {"vision": True, "retires": "2027-01-02", "quality": 80, "context_tokens": 5}},
        }
        settings = settings_from({"providers": {"acme": table}}, "x.toml")
        assert settings.providers["acme"].models["m"] == ModelSettings(
            vision=True, retires=date(2027, 1, 2), quality=80, context_tokens=5
        )

    @pytest.mark.parametrize(
        ("said", "text"),
        [
            ({"visoin": True}, r"unknown key providers\.acme\.models\.m\.visoin; did you mean vision\?"),
            ({"quality": 101}, "<= 100"),
            ({"context_tokens": 0}, ">= 1"),
            ({"retires": "soon"}, "date"),
        ],
    )
    def test_what_is_wrong_of_models(self, said: dict[str, object], text: str) -> None:
        table = {"base_url": "http://127.0.0.1:9/v1", "models": {"m": said}}
        with pytest.raises(ConfigError, match=text):
            settings_from({"providers": {"acme": table}}, "x.toml")

    def test_aliases(self) -> None:
        told = {"fast": "a/b", "sure": {"models": ["fast", "c/d"], "free_to_paid": True}}
        settings = settings_from({"aliases": told}, "x.toml")
        assert settings.aliases["sure"] == AliasSettings(models=("fast", "c/d"), free_to_paid=True)
        assert aliases_of(settings, "x.toml")["sure"].models == ("a/b", "c/d")

    @pytest.mark.parametrize(
        ("told", "text"),
        [
            ({"a": "b", "b": "a"}, r"x\.toml: aliases\.a leads back to itself: a -> b -> a"),
            ({"a": {"modles": []}}, "modles"),
            ({"a": 7}, r"aliases"),
            ({"AUTO": "a/b"}, "not AUTO"),
        ],
    )
    def test_wrong_aliases(self, told: dict[str, object], text: str) -> None:
        with pytest.raises(ConfigError, match=text):
            settings_from({"aliases": told}, "x.toml")
