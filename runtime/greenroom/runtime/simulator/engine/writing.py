"""How the simulated models write: a paragraph made of the prompt's own words, in seeded sentences."""

from greenroom.runtime.simulator.engine.dice import Dice
from greenroom.runtime.simulator.engine.reading import READ_CHARACTERS

_OPENERS = (
    "This is mostly about {a}, with {b} close behind.",
    "The short answer is that {a} depends on {b}.",
    "It helps to start with {a}.",
    "Two things matter here: {a} and {b}.",
    "You are asking about {a}, so let us take that first.",
    "In brief, {a} comes before {b}.",
    "There is more than one way to see {a}.",
)
_MIDDLES = (
    "Once {b} is clear, {c} follows without much effort.",
    "Many people look at {c} first, yet {b} explains more of it.",
    "If {b} changes, expect {a} to change with it.",
    "A simple check is to compare {c} with {a} before going further.",
    "What is easily missed is how {c} bears on {b}.",
    "In practice {a} and {c} are handled together.",
    "Where {b} is uncertain, it is safer to assume the plain case.",
    "The details of {c} can wait until {a} is settled.",
    "It is worth writing down what {b} means for you.",
    "None of this needs {c} to be perfect.",
)
_CLOSERS = (
    "That should be enough to decide about {a}.",
    "With that in mind, {c} is the next thing to look at.",
    "If something is still unclear, say more about {b}.",
    "The rest is a matter of {c}.",
    "I would begin with {a} and see how far it goes.",
)
_SMALL_TALK = (
    "Hello! What would you like to talk about?",
    "Hi there. Tell me a little more and I will do my best.",
    "Good to hear from you. What can I help with?",
)
_COMMON = frozenset(
    """
    about above after again also although always another because been before being below between both
    cannot could does doing down each else even every from further give given have having here hers
    himself however into itself just like made make many more most much must need never only other ours
    over please really same shall should since some something still such take tell than that their them
    then there these they thing things this those through under until upon very want well were what when
    where which while whom whose will with without would your yours write explain describe answer question
    following text why how the and for are was you can not but has had his her its who did get got may any
    all one two out use our off too yes now let say
    """.split()  # noqa: SIM905  # a word list reads better as words
)


def keywords(text: str, *, count: int = 9) -> list[str]:
    """The words that a text seems to be about, the most frequent first, then in order of appearance."""
    tally: dict[str, int] = {}
    for raw in text[:READ_CHARACTERS].split():
        word = raw.strip(".,;:!?\"'()[]{}<>«»“”*`#-").lower()
        if 2 < len(word) <= 24 and word not in _COMMON and not word.isdigit():
            tally[word] = tally.get(word, 0) + 1
    return sorted(tally, key=lambda word: -tally[word])[:count]


def paragraph(text: str, dice: Dice, sentences: tuple[int, int]) -> str:
    """A short paragraph about `text`, of `sentences[0]` to `sentences[1]` sentences."""
    words = keywords(text)
    if not words:
        return dice.pick(_SMALL_TALK)
    count = dice.between(*sentences)
    frames = [dice.pick(_OPENERS)]
    frames += dice.sample(_MIDDLES, count - 2)
    if count > 1:
        frames.append(dice.pick(_CLOSERS))
    return " ".join(_fill(frame, words, dice) for frame in frames)


def phrase(text: str, dice: Dice) -> str:
    """Two or three of the text's words in a row, for a field that wants a short string."""
    words = keywords(text)
    return " ".join(dice.sample(words, dice.between(2, 3))) if words else "nothing particular"


def _fill(frame: str, words: list[str], dice: Dice) -> str:
    """`frame` with words for its letters: an early one for a, any others for b and c, all different where possible."""
    first = words[dice.below(min(3, len(words)))]
    rest = dice.sample([word for word in words if word != first] or [first], 2)
    sentence = frame.format(a=first, b=rest[0], c=rest[-1])
    return sentence[0].upper() + sentence[1:]
