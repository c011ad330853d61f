"""What answers tell of limits, and what they tell that is not so. Without an actor: the calls tell the allowance themselves."""

from collections.abc import Callable, Iterable, Mapping

import pytest

from greenroom.actors.events import Usage
from greenroom.actors.limiter import Admit, Allowance, ModelLimits
from greenroom.actors.settings import Limits

OPENAI = "openai-chat"
ANTHROPIC = "anthropic-messages"
NOW_S = 5_000.0


def openai(what: str, limit: object, left: object) -> dict[str, str]:
    return {f"x-ratelimit-limit-{what}": str(limit), f"x-ratelimit-remaining-{what}": str(left)}


def anthropic(what: str, limit: object, left: object) -> dict[str, str]:
    return {
        f"anthropic-ratelimit-{what}-limit": str(limit),
        f"anthropic-ratelimit-{what}-remaining": str(left),
    }


class Caller:
    """Asks an allowance, and tells it what answers say."""

    def __init__(self, limits: Limits = Limits(), wire: str = OPENAI) -> None:  # noqa: B008  # frozen
        self.allowance = Allowance(limits, NOW_S, wire)
        self._tickets = 0

    def wait_s(self, now_s: float, tokens: int = 1, most: int = 0, model: str = "m") -> float:
        allowance = self.allowance
        lane = allowance.lane(model, now_s)
        amounts = lane.amounts(Admit(0, tokens, most, model))
        return max(allowance.own_s(lane, amounts, now_s), allowance.shared_s(amounts, now_s))

    def send(self, now_s: float, tokens: int = 1, most: int = 0, model: str = "m") -> int:
        self._tickets += 1
        admit = Admit(self._tickets, tokens, most, model)
        lane = self.allowance.lane(model, now_s)
        self.allowance.grant(admit, lane, lane.amounts(admit), now_s)
        return self._tickets

    def hear(self, ticket: int, headers: Mapping[str, str], now_s: float, usage: Usage | None = None) -> None:
        self.allowance.observe(ticket, headers, now_s)
        self.allowance.give_back(ticket, now_s, usage, "ok")

    def ask(self, headers: Mapping[str, str], now_s: float = NOW_S, tokens: int = 1) -> None:
        """One request, answered at once."""
        self.hear(self.send(now_s, tokens), headers, now_s)

    def known(self, model: str = "m") -> ModelLimits:
        return next(one for one in self.allowance.models(NOW_S) if one.model == model)


class TestWhatIsTold:
    def test_openai_s_limits(self) -> None:
        caller = Caller()
        caller.ask(openai("requests", 500, 499) | openai("tokens", 200_000, 199_000))
        known = caller.known()
        assert (known.requests_per_min, known.tokens_per_min) == (500, 200_000)
        assert caller.wait_s(NOW_S) == pytest.approx(60 / 500 / 0.98)

    def test_anthropic_s_limits(self) -> None:
        caller = Caller(wire=ANTHROPIC)
        told = anthropic("requests", 50, 49) | anthropic("tokens", 48_000, 48_000)
        caller.ask(
            told | anthropic("input-tokens", 40_000, 40_000) | anthropic("output-tokens", 8_000, 8_000)
        )
        known = caller.known()
        assert (known.requests_per_min, known.tokens_per_min) == (50, 48_000)
        assert (known.input_tokens_per_min, known.output_tokens_per_min) == (40_000, 8_000)

    @pytest.mark.parametrize(("tokens", "most"), [(4_000, 1), (1, 800)])
    def test_input_and_output_are_limited_apart(self, tokens: int, most: int) -> None:
        caller = Caller(Limits(input_tokens_per_min=40_000, output_tokens_per_min=8_000))
        caller.send(NOW_S, tokens, most)
        assert caller.wait_s(NOW_S, tokens, most) == pytest.approx(60 / 10 / 0.98)

    def test_each_model_has_its_own(self) -> None:
        caller = Caller()
        caller.hear(caller.send(NOW_S, model="slow"), openai("requests", 60, 59), NOW_S)
        caller.hear(caller.send(NOW_S, model="fast"), openai("requests", 6_000, 5_999), NOW_S)
        assert caller.wait_s(NOW_S, model="slow") == pytest.approx(1 / 0.98)
        assert caller.wait_s(NOW_S, model="fast") == pytest.approx(0.01 / 0.98)

    def test_what_is_configured_holds_beside_it(self) -> None:
        caller = Caller(Limits(requests_per_min=60))
        caller.ask(openai("requests", 6_000, 5_999))
        assert caller.wait_s(NOW_S) == pytest.approx(1 / 0.98)

    def test_another_limit_holds_from_then_on_and_what_is_owed_remains(self) -> None:
        caller = Caller()
        caller.ask(openai("tokens", 60_000, 50_000), tokens=9_800)
        assert caller.wait_s(NOW_S, tokens=980) == pytest.approx(10.0)
        caller.ask(openai("tokens", 120_000, 110_000), tokens=0)
        assert caller.wait_s(NOW_S, tokens=1_960) == pytest.approx(5.0)

    def test_what_went_before_the_first_answer_is_owed(self) -> None:
        caller = Caller()
        tickets = [caller.send(NOW_S) for _ in range(5)]
        caller.hear(tickets[0], openai("requests", 60, 55), NOW_S + 1.0)
        assert caller.wait_s(NOW_S + 1.0) == pytest.approx((5 - 1) / 0.98)

    def test_few_are_sent_before_the_first_answer_and_twice_as_many_each_second(self) -> None:
        caller = Caller()
        sent: list[int] = []
        for second in range(4):
            while caller.wait_s(NOW_S + second) == 0.0:
                sent.append(caller.send(NOW_S + second))
            assert len(sent) == 8 * 2**second
            assert caller.wait_s(NOW_S + second + 0.75) == pytest.approx(0.25)
        caller.hear(sent[0], {}, NOW_S + 4)
        assert caller.wait_s(NOW_S + 4) == 0.0

    @pytest.mark.parametrize("wire", ["gemini", "ollama", "bedrock-converse"])
    def test_hosts_that_never_tell_are_not_waited_for(self, wire: str) -> None:
        caller = Caller(wire=wire)
        for _ in range(100):
            caller.send(NOW_S)
        assert caller.wait_s(NOW_S) == 0.0

    def test_what_others_use_is_seen_before_a_refusal(self) -> None:
        """The key is shared: 400 of 600 are gone at once, and little more than what comes back is left."""
        caller = Caller()
        caller.ask(openai("requests", 600, 599))
        ticket = caller.send(NOW_S + 1)
        caller.hear(ticket, openai("requests", 600, 2), NOW_S + 1)
        for _ in range(2):
            caller.send(NOW_S + 1)
        assert caller.wait_s(NOW_S + 1) > 0.1
        later = caller.send(NOW_S + 2)
        caller.hear(later, openai("requests", 600, 0), NOW_S + 2)
        assert caller.wait_s(NOW_S + 2) == pytest.approx(0.1, rel=0.05)

    @pytest.mark.parametrize("known", ["stated", "learned"])
    def test_a_refusal_slows_down_for_a_while(self, known: str) -> None:
        told = openai("requests", 600, 599) if known == "learned" else {}
        caller = Caller(Limits() if known == "learned" else Limits(requests_per_min=600))
        caller.ask(told, NOW_S - 10)
        ticket = caller.send(NOW_S)
        caller.allowance.refused(ticket, "rate_limited", None, NOW_S)
        caller.allowance.give_back(ticket, NOW_S)
        slow_s, pace_s = 0.1 / 0.98 / 0.95, 0.1 / 0.98
        caller.send(NOW_S + 1)
        assert caller.wait_s(NOW_S + 1) == pytest.approx(slow_s)
        for second in range(2, 20):
            caller.hear(caller.send(NOW_S + second), told, NOW_S + second)
        caller.send(NOW_S + 20)
        assert caller.wait_s(NOW_S + 20) == pytest.approx(pace_s)

    def test_what_was_sent_since_is_gone_too(self) -> None:
        caller = Caller()
        caller.ask(openai("tokens", 60_000, 60_000), NOW_S - 100, tokens=0)
        asked = caller.send(NOW_S, tokens=100)
        caller.send(NOW_S, tokens=800)
        caller.hear(asked, openai("tokens", 60_000, 1_000), NOW_S + 1)
        assert caller.wait_s(NOW_S + 1, tokens=2_000) == pytest.approx(0.8)

    def test_refusals_of_what_was_sent_before_the_last_one_are_no_news(self) -> None:
        caller = Caller(Limits(requests_per_min=600))
        for ticket in [caller.send(NOW_S) for _ in range(50)]:
            caller.allowance.refused(ticket, "rate_limited", None, NOW_S + 0.1)
            caller.allowance.give_back(ticket, NOW_S + 0.1)
        caller.send(NOW_S + 60)
        assert caller.wait_s(NOW_S + 60) == pytest.approx(0.1 / 0.98 / 0.95)


class TestWhatIsNotSo:
    """Headers that lie."""

    @pytest.mark.parametrize(
        "limit", ["", "lots", "nan", "-5", "0", "0.5", "inf", "1e30", "60 requests", "0x10"]
    )
    def test_no_limit_that_could_be_is_learned_from_garbage(self, limit: str) -> None:
        caller = Caller()
        for _ in range(5):
            caller.ask(openai("requests", limit, 0) | openai("tokens", limit, -7))
        assert caller.known().requests_per_min is None
        assert caller.wait_s(NOW_S, tokens=10**9) == 0.0

    @pytest.mark.parametrize("left", ["", "many", "nan", "100000", "inf", None])
    def test_more_left_than_the_limit_is_all_of_it_and_garbage_is_nothing(self, left: str | None) -> None:
        caller = Caller()
        told = openai("requests", 60, left)
        if left is None:
            del told["x-ratelimit-remaining-requests"]
        caller.ask(told)
        assert caller.wait_s(NOW_S) == pytest.approx(1 / 0.98)

    @pytest.mark.parametrize("left", ["-1", "-1e300", "-inf"])
    def test_less_left_than_nothing_is_nothing(self, left: str) -> None:
        caller = Caller()
        caller.ask(openai("requests", 60, 59))
        caller.ask(openai("requests", 60, left))
        assert 0.0 < caller.wait_s(NOW_S) <= 60.0

    def test_what_is_left_is_not_believed_before_most_of_it_was_seen_left(self) -> None:
        """A window of a second under a limit that is told a minute never has more than a sixtieth of it left."""
        caller = Caller()
        for second in range(10):
            caller.ask(openai("tokens", 60_000, 500), NOW_S + second, tokens=0)
        assert caller.wait_s(NOW_S + 9, tokens=980) == 0.0

    def test_headers_that_change_with_each_answer_keep_one_limit(self) -> None:
        caller = Caller()
        for limit in range(100, 1_100):
            caller.ask(openai("requests", limit, limit))
        assert caller.known().requests_per_min == 1_099

    def test_reset_is_not_asked(self) -> None:
        caller = Caller()
        for reset in ("-5s", "8760h0m0s", "yesterday", "0"):
            caller.ask(openai("requests", 60, 59) | {"x-ratelimit-reset-requests": reset})
        assert caller.wait_s(NOW_S) < 5 / 0.98

    def test_callers_may_name_any_model(self) -> None:
        caller = Caller()
        for number in range(1_000):
            caller.hear(caller.send(NOW_S, model=f"m{number}"), openai("requests", 60, 59), NOW_S)
        assert len(caller.allowance.models(NOW_S)) <= 65
        assert caller.wait_s(NOW_S, model="m0") == pytest.approx(1 / 0.98)
        assert caller.wait_s(NOW_S, model="yet another") > 60.0

    def test_who_holds_no_permit_tells_nothing(self) -> None:
        caller = Caller()
        caller.allowance.observe(99, openai("requests", 60, 0), NOW_S)
        caller.allowance.refused(99, "rate_limited", 60.0, NOW_S)
        caller.allowance.give_back(99, NOW_S, Usage(output_tokens=5), "ok")
        assert caller.wait_s(NOW_S) == 0.0
        assert caller.allowance.models(NOW_S) == (ModelLimits(model="m"),)

    def test_a_clock_that_jumps_ahead_lets_no_more_through_than_one_that_goes(self) -> None:
        caller = Caller(Limits(requests_per_min=60, tokens_per_min=60_000))
        caller.send(NOW_S, tokens=980)
        caller.send(NOW_S + 365 * 86_400, tokens=980)
        assert caller.wait_s(NOW_S + 365 * 86_400, tokens=980) == pytest.approx(1 / 0.98)

    def test_a_clock_that_goes_back_makes_wait_by_as_much(self) -> None:
        caller = Caller(Limits(requests_per_min=60))
        caller.send(NOW_S)
        assert caller.wait_s(NOW_S - 100) == pytest.approx(100 + 1 / 0.98)


class TestSizes:
    """How large requests and answers are, beside what was guessed."""

    def answered(self, caller: Caller, usages: Iterable[Usage], guess: int, most: int = 0) -> float:
        """So many answers one after another; the moment of the last."""
        now_s = NOW_S
        for usage in usages:
            now_s += 600.0
            caller.hear(caller.send(now_s, guess, most), {}, now_s, usage)
        return now_s

    def owed(self, caller: Caller, now_s: float, guess: int, most: int = 0) -> float:
        """What a request is reckoned at, in tokens of 1 000 a second."""
        caller.send(now_s, guess, most)
        return caller.wait_s(now_s, tokens=100_000) * 980

    def test_guesses_at_the_input_are_mended(self) -> None:
        caller = Caller(Limits(tokens_per_min=60_000))
        now_s = self.answered(caller, [Usage(input_tokens=2_000, output_tokens=1)] * 5, guess=4_000)
        assert self.owed(caller, now_s + 600, guess=4_000) == pytest.approx(2_000)

    def test_large_requests_count_more_in_it(self) -> None:
        caller = Caller(Limits(tokens_per_min=60_000))
        now_s = NOW_S
        for guess, tokens in [(100_000, 50_000), (10, 20)] * 25:
            now_s += 6_000.0
            caller.hear(caller.send(now_s, guess), {}, now_s, Usage(input_tokens=tokens, output_tokens=1))
        assert self.owed(caller, now_s + 6_000, guess=4_000) == pytest.approx(2_000, rel=0.05)

    @pytest.mark.parametrize("tokens", [2_000, 6_000])
    def test_what_the_input_was_less_is_given_back_and_what_it_was_more_is_owed(self, tokens: int) -> None:
        caller = Caller(Limits(tokens_per_min=60_000))
        now_s = self.answered(caller, [Usage(input_tokens=4_000, output_tokens=1)], guess=4_000) + 600
        caller.hear(caller.send(now_s, 4_000), {}, now_s, Usage(input_tokens=tokens, output_tokens=1))
        assert caller.wait_s(now_s, tokens=100_000) * 980 == pytest.approx(tokens)

    @pytest.mark.parametrize(("tokens", "owed"), [(2_000, 4_000), (6_000, 6_000)])
    def test_of_a_first_guess_nothing_is_given_back(self, tokens: int, owed: int) -> None:
        caller = Caller(Limits(tokens_per_min=60_000))
        caller.hear(caller.send(NOW_S, 4_000), {}, NOW_S, Usage(input_tokens=tokens, output_tokens=1))
        assert caller.wait_s(NOW_S, tokens=100_000) * 980 == pytest.approx(owed)

    def test_tokens_of_the_answer_that_were_not_used_are_given_back_where_they_count_at_the_end(self) -> None:
        for counted, owed in (("arrival", 4_100), ("end", 300)):
            caller = Caller(Limits(tokens_per_min=60_000, tokens_counted="end" if counted == "end" else None))
            now_s = self.answered(caller, [Usage(100, 4_000)], guess=100, most=4_000) + 600
            usage = Usage(input_tokens=100, output_tokens=150, reasoning_tokens=50)
            caller.hear(caller.send(now_s, 100, 4_000), {}, now_s, usage)
            assert caller.wait_s(now_s, tokens=100_000) * 980 == pytest.approx(owed)

    def test_where_they_count_at_the_end_answers_are_reckoned_at_their_mean(self) -> None:
        caller = Caller(Limits(tokens_per_min=60_000, tokens_counted="end"))
        now_s = self.answered(caller, [Usage(100, 100), Usage(100, 300)] * 20, guess=100, most=4_000)
        assert self.owed(caller, now_s + 600, 100, 4_000) == pytest.approx(100 + 200, rel=0.05)
        assert self.owed(Caller(Limits(tokens_per_min=60_000, tokens_counted="end")), NOW_S, 100, 4_000) == (
            pytest.approx(4_100)
        )

    @pytest.mark.parametrize(("wire", "counted"), [(OPENAI, 1_000), (ANTHROPIC, 400)])
    def test_what_is_read_from_a_cache_counts_at_openai_and_not_at_anthropic(
        self, wire: str, counted: int
    ) -> None:
        caller = Caller(Limits(tokens_per_min=60_000), wire)
        usage = Usage(
            input_tokens=100, cached_tokens=600, cache_write_5m_tokens=200, cache_write_1h_tokens=100
        )
        now_s = self.answered(caller, [usage], guess=1_000)
        assert self.owed(caller, now_s + 600, guess=1_000) == pytest.approx(counted)

    @pytest.mark.parametrize("usage", [None, Usage()])
    def test_an_answer_that_states_no_usage_is_what_it_was_reckoned_at(self, usage: Usage | None) -> None:
        caller = Caller(Limits(tokens_per_min=60_000, tokens_counted="end"))
        now_s = self.answered(caller, [usage or Usage()] * 3, guess=1_000, most=1_000)
        assert self.owed(caller, now_s + 600, 1_000, 1_000) == pytest.approx(2_000)


def nearly_full(sent: int, used: int) -> float:
    """A bucket that has only the last request to make up for."""
    return 1_100.0


def untouched(sent: int, used: int) -> float:
    """A server that has counted nothing yet."""
    return 0.0


class TestAccounting:
    """When tokens count, by what is said to be left."""

    TOKENS = 60_000
    MOST = 1_000

    def run(
        self, caller: Caller, gone: Callable[[int, int], float], answers: int = 20, after_s: float = 0.0
    ) -> ModelLimits:
        """Requests of 100 + 1 000 tokens that use 100 + 100, one a second; `gone` by what was sent and used."""
        for number in range(1, answers + 1):
            now_s = NOW_S + after_s + 1.2 * number
            ticket = caller.send(now_s, 100, self.MOST)
            told = openai("tokens", self.TOKENS, self.TOKENS - gone(number, number - 1))
            caller.hear(ticket, told, now_s + 1.0, Usage(input_tokens=100, output_tokens=100))
        return caller.known()

    def test_on_arrival(self) -> None:
        assert not self.run(Caller(), lambda sent, _: 1_100 * sent).counts_at_end
        assert not self.run(Caller(), nearly_full).counts_at_end

    def test_at_the_end(self) -> None:
        assert self.run(Caller(), lambda _, used: 200 * used).counts_at_end
        assert self.run(Caller(), untouched).counts_at_end

    def test_then_what_was_sent_is_owed_at_what_it_uses(self) -> None:
        caller = Caller()
        tickets = [caller.send(NOW_S, 100, self.MOST) for _ in range(20)]
        told = openai("tokens", self.TOKENS, self.TOKENS)
        for ticket in tickets[:2]:
            caller.hear(ticket, told, NOW_S + 1, Usage(input_tokens=100, output_tokens=100))
        assert caller.wait_s(NOW_S + 1, tokens=980) == pytest.approx((20 * 1_100 - 1_000) / 980, rel=0.01)
        caller.hear(tickets[2], told, NOW_S + 1, Usage(input_tokens=100, output_tokens=100))
        assert caller.wait_s(NOW_S + 1, tokens=980) == pytest.approx((20 * 200 - 1_000) / 980, rel=0.05)

    def test_three_answers_say_it(self) -> None:
        assert not self.run(Caller(), lambda _, used: 200 * used, answers=2).counts_at_end
        assert self.run(Caller(), lambda _, used: 200 * used, answers=3).counts_at_end

    def test_what_does_not_hold_the_request_itself_was_not_charged_on_arrival(self) -> None:
        """Though others had used half of it before, so that nothing is known of what is gone."""
        caller = Caller()
        assert not self.run(caller, lambda sent, _: 30_000 + 1_100 * sent).counts_at_end
        assert self.run(caller, lambda sent, _: 500.0 + 0 * sent, answers=3, after_s=30).counts_at_end

    def test_others_who_use_the_key_make_it_no_clearer(self) -> None:
        assert not self.run(Caller(), lambda _, used: 30_000 + 200 * used).counts_at_end

    def test_what_is_configured_is_not_asked(self) -> None:
        caller = Caller(Limits(tokens_per_min=60_000, tokens_counted="arrival"))
        assert not self.run(caller, lambda _, used: 200 * used).counts_at_end

    def test_refusals_take_it_back_and_then_it_takes_more(self) -> None:
        caller = Caller()
        assert self.run(caller, lambda _, used: 200 * used).counts_at_end
        for number in range(6):
            now_s = NOW_S + 100 + number
            ticket = caller.send(now_s, 100, self.MOST)
            caller.allowance.refused(ticket, "rate_limited", None, now_s)
            caller.allowance.give_back(ticket, now_s)
        assert not caller.known().counts_at_end
        assert not self.run(caller, lambda _, used: 200 * used, after_s=110).counts_at_end
        for after_s in (300, 500):
            assert not self.run(caller, lambda _, used: 200 * used, after_s=after_s).counts_at_end
        assert self.run(caller, lambda _, used: 200 * used, after_s=700).counts_at_end

    def test_a_refusal_now_and_then_does_not(self) -> None:
        caller = Caller()
        for after_s in range(0, 5_000, 500):
            self.run(caller, lambda _, used: 200 * used, answers=100, after_s=after_s)
            now_s = NOW_S + after_s + 200
            ticket = caller.send(now_s, 100, self.MOST)
            caller.allowance.refused(ticket, "rate_limited", None, now_s)
            caller.allowance.give_back(ticket, now_s)
        assert caller.known().counts_at_end
