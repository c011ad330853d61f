"""How large one model's requests and answers turn out to be."""

from msgspec import Struct

from greenroom.actors.events import Usage

_WINDOW = 50
"""So many answers back reach the means."""


class Sizes(Struct, gc=False):
    """Running estimates: how a guess at the input compares with what is counted, and the mean of what is answered.

    `cached_count` is whether tokens read from a cache count towards the provider's limits.
    """

    cached_count: bool = True
    answers: int = 0
    output_mean: float = 0.0
    _guessed: float = 0.0
    _counted: float = 0.0

    def input_tokens(self, guess: int) -> float:
        """The guess, mended by what earlier guesses came to."""
        return guess * self._counted / self._guessed if self._guessed else float(guess)

    def output_tokens(self, most: int) -> float:
        """What is likely to be answered; the most that may be, while nothing is known."""
        return min(most, self.output_mean) if self.answers else float(most)

    @property
    def input_mean(self) -> float:
        """Of requests that were answered."""
        return self._counted

    def counted(self, usage: Usage) -> tuple[int, int]:
        """Input and output tokens of an answer, as limits count them."""
        tokens_in = (
            usage.input_tokens
            + usage.cache_write_5m_tokens
            + usage.cache_write_1h_tokens
            + usage.audio_input_tokens
        )
        if self.cached_count:
            tokens_in += usage.cached_tokens
        return tokens_in, usage.output_tokens + usage.reasoning_tokens + usage.audio_output_tokens

    def learn(self, guess: int, tokens_in: int, tokens_out: int) -> None:
        """One more answer, and what its input had been guessed at."""
        self.answers = min(self.answers + 1, _WINDOW)
        weight = 1 / self.answers
        self.output_mean += weight * (tokens_out - self.output_mean)
        if guess and tokens_in:
            # Means of both, not the mean of their ratios: large requests matter more.
            self._guessed += weight * (guess - self._guessed)
            self._counted += weight * (tokens_in - self._counted)
