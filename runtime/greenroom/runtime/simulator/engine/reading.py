"""How the simulated models read a prompt: which labels it offers, what text it is about, which label fits.

Plain word overlap on the first letters of words, with a few everyday cues for labels that jobs often use. It is no
language model and need not be: it makes answers that look right on a page, fixed by the request, in some 30 us.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from greenroom.runtime.simulator.engine.dice import Dice
from greenroom.runtime.simulator.engine.question import Question

# Only so much of a long prompt is looked at, so that an answer's cost is bounded whatever is sent.
READ_CHARACTERS = 6_000
READ_SENTENCES = 10
MAX_LABELS = 64
MAX_LABEL_CHARACTERS = 60

_STEM = 5
_TO_SPACES = str.maketrans(dict.fromkeys(".,;:!?\"'()[]{}<>/|*`#_=+~\u2026\u201c\u201d\u00ab\u00bb\n\t", " "))
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_BLANK_LINE = re.compile(r"\n\s*\n")
_BRACKETED = re.compile(r"\([^()\n]*\)")
_BULLET = re.compile(r"\s*(?:[-*•]|\d{1,2}[.)])\s+([^\n:]{1,60})[^\n]*(?:\n|$)")
_OFFER = re.compile(
    r"(?:\b(?:one|any|either)\s+of(?:\s+(?:the\s+following|these|the))?"
    r"(?:\s+(?:labels|categories|classes|options|values|intents|topics|tags))?"
    r"|\b(?:allowed\s+|possible\s+)?(?:labels|categories|classes|options|intents)(?:\s+are)?\s*(?=:)"
    r"|\b(?:choose|pick|decide|select)\s+(?:between|among|from))"
    r"\s*:?[ \t]*(\n|[^\n.;?!]{3,600})",
    re.IGNORECASE,
)
_CUES_BY_LABEL = {
    "billing payment invoice": "charged charge invoice invoices refund refunded card payment paid price billed bill"
    " receipt fee fees discount coupon credit renewal tax vat euro euros dollars voucher amount money plan trial"
    " rechnung abgebucht betrag mahnung cobro cobrado factura devolver paiement remboursement addebito frete",
    "bug technical error issue": "crash crashes error broken freeze freezes froze blank fails failed failing stuck"
    " version firmware update updating reinstalled restart restarted reboots stops stopped invalid undefined vanish"
    " vanished missing glitch reproduce bug screen loads sync wrong shows fehler verschwindet absturz plante"
    " ferme erreur fallo aggiornato",
    "feature request idea suggestion": "wish wishes feature suggestion idea option shortcut widget filter integration"
    " roadmap adding add dark mode setting settings consider lovely handy able sort funktion"
    " einbauen könnte filtrar estupendo lägga ajouter",
    "account access login": "password login logged locked account accounts username email reset verify verification"
    " code administrator profile register suspended identity authenticator admin assistant passwort konto anmelden"
    " angemeldet contraseña cuenta compte accesso",
    "shipping delivery order": "parcel package delivery delivered courier tracking shipped shipment dispatched dispatch"
    " arrived arrive arrives warehouse order ordered orders driver box van pallets boxes replacement"
    " lieferung bestelling bezorgd envío pedido colis livraison pesanan 订单号",
    "refund return": "refund return returned money back erstattung reembolso remboursement",
    "positive good praise": "great love excellent thank thanks wonderful perfect happy best fantastic amazing enjoy",
    "negative bad complaint": "terrible bad awful disappointed worst angry broken never poor rude unacceptable useless",
    "spam": "winner prize lottery click viagra crypto offer guaranteed free casino",
    "urgent high critical": "urgent immediately asap today down outage deadline emergency critical now",
    "question": "how what where when which does can",
    "security": "phishing hacked breach stolen password leak suspicious vulnerability stranger",
}
_FALLBACK_LABELS = frozenset({"other", "others", "unknown", "neutral", "none", "misc", "general", "n/a"})


def stems(text: str) -> set[str]:
    """The first five letters of every word, in lower case."""
    return {word[:_STEM] for word in text.lower().translate(_TO_SPACES).split()}


@lru_cache(maxsize=1_024)
def _family(label: str) -> tuple[frozenset[str], tuple[frozenset[str], ...]]:
    """A label's own stems, and the cues of each of them."""
    own = frozenset(stems(label))
    return own, tuple([cues for stem in own if (cues := _CUES.get(stem))])


_CUES: dict[str, frozenset[str]] = {
    stem: frozenset(stems(cues)) for labels, cues in _CUES_BY_LABEL.items() for stem in stems(labels)
}


class Reading(msgspec.Struct, frozen=True):
    """What a prompt says: the instructions, the text they are about, and the labels to choose from, if any."""

    instruction: str
    subject: str
    labels: tuple[str, ...] = ()

    @property
    def wants_summary(self) -> bool:
        lowered = self.instruction.lower()
        return "summar" in lowered or "one line" in lowered or "one-line" in lowered


def last_user_text(question: Question) -> str:
    """The text of the last user message; without one, of the last message."""
    for turn in reversed(question.turns):
        if turn.role == "user":
            return turn.text
    return question.turns[-1].text


def read(question: Question) -> Reading:
    """Finds labels in the last user message or else in the instructions before it, and what they apply to."""
    text = last_user_text(question)[:READ_CHARACTERS]
    labels, start, end = find_labels(text)
    if labels:
        instruction, subject = _split_at(text, start, end)
        return Reading(instruction, subject, labels)
    for turn in question.turns:
        if turn.role in {"system", "developer"}:
            standing = turn.text[:READ_CHARACTERS]
            return Reading(standing, text, find_labels(standing)[0])
    first, blank, rest = text.partition("\n\n")
    return Reading(first, rest, ()) if blank and rest.strip() else Reading(text, text, ())


def find_labels(text: str) -> tuple[tuple[str, ...], int, int]:
    """The labels that a prompt offers ("one of: a, b, c", "labels: ...", a list after it), and where they stand.

    Returns:
        The labels (none: an empty tuple) and the offsets of the start and the end of the passage.
    """
    for offer in _OFFER.finditer(text):
        passage = offer.group(1)
        found, end = _bullets(text, offer.end()) if passage == "\n" else (_listed(passage), offer.end())
        if 2 <= len(found) <= MAX_LABELS:
            return tuple(found), offer.start(), end
    return (), 0, 0


def _bullets(text: str, at: int) -> tuple[list[str], int]:
    found: list[str] = []
    while (bullet := _BULLET.match(text, at)) and len(found) <= MAX_LABELS:
        found.append(_clean(bullet.group(1)))
        at = bullet.end()
    return found, at


def _listed(passage: str) -> list[str]:
    passage = _BRACKETED.sub("", passage)
    if "," in passage or "|" in passage:
        parts = re.split(r"[,|]", passage)
        parts[-1:] = re.split(r"\bor\b" if re.search(r"\bor\b", parts[-1]) else r"\band\b", parts[-1])
    else:
        parts = re.split(r"\bor\b|\band\b|/", passage)
    labels: list[str] = []
    for part in parts:
        label = _clean(re.sub(r"^\s*(?:or|and)\b", "", part))
        if label and label not in labels:
            labels.append(label)
    return labels


def _clean(label: str) -> str:
    """A label without quotes, brackets and trailing sentence; "" where what is left is no label but prose."""
    label = label.strip(" \t\"'`*[]<>{}“”«»:")
    if len(label.split()) > 3:
        label = label.split(" and ")[0].strip()
    return label if len(label.split()) <= 3 and len(label) <= MAX_LABEL_CHARACTERS else ""


def _split_at(text: str, start: int, end: int) -> tuple[str, str]:
    before, after = text[:start], text[end:]
    parts = _BLANK_LINE.split(after, maxsplit=1)
    if len(parts) == 2 and parts[1].strip():
        return text[: len(text) - len(parts[1])], parts[1]
    if len(after.strip()) > 40 or not before.strip():
        return text[:end], after
    return text[start:], before


def pick_label(labels: Sequence[str], text: str, dice: Dice) -> str:
    """The label whose own words or cues meet most of the text's words; without any, the label for the rest, or a throw."""
    present = stems(text[:READ_CHARACTERS])
    best, best_score = "", 0
    for label in labels:
        own, families = _family(label)
        score = 2 * len(own & present) + sum([len(cues & present) for cues in families])
        if score > best_score:
            best, best_score = label, score
    if best:
        return best
    for label in labels:
        if label.lower() in _FALLBACK_LABELS:
            return label
    return dice.pick(labels)


def summarise(text: str, label: str = "", *, max_words: int = 16) -> str:
    """One line about the text: the sentence that bears the most cues of `label`, shortened to `max_words`."""
    families = _family(label)[1]
    best: list[str] = []
    best_score = -1
    for sentence in _SENTENCE_END.split(text[:READ_CHARACTERS].strip())[:READ_SENTENCES]:
        words = sentence.split()
        present = stems(sentence) if families else frozenset[str]()
        score = sum([len(cues & present) for cues in families]) + (len(words) >= 4)
        if score > best_score and words:
            best, best_score = words, score
    line = " ".join(best[:max_words]).rstrip(",;:.")
    return line + ("…" if len(best) > max_words else "")
