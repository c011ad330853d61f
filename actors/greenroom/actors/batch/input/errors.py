"""What can be wrong with an input: one line of it, or all of it."""


class BadLine(Exception):
    """A line of the input cannot be asked; the message says which line and what would be right."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(number, reason)
        self.number = number
        self.reason = reason

    def __str__(self) -> str:
        return f"line {self.number}: {self.reason}"


class BadInput(Exception):
    """No line could be asked: the columns, the template or an option is wrong. The message says what would be right."""
