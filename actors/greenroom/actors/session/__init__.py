"""Sessions: conversations that outlive their process, one turn after the other."""

from greenroom.actors.session.actor import Session
from greenroom.actors.session.conversation import Awake, Conversation, SessionStream
from greenroom.actors.session.messages import GetSessionStatus, SessionStatus, Sleep
from greenroom.actors.session.state import (
    Entry,
    Memory,
    SessionBusy,
    SessionConflict,
    SessionExists,
    SessionFull,
    SessionRefused,
    SessionSettings,
    SettingsChange,
    TooLong,
    Totals,
    UnknownSession,
    Window,
    check_name,
    no_checkpoint,
)

__all__ = (
    "Awake",
    "Conversation",
    "Entry",
    "GetSessionStatus",
    "Memory",
    "Session",
    "SessionBusy",
    "SessionConflict",
    "SessionExists",
    "SessionFull",
    "SessionRefused",
    "SessionSettings",
    "SessionStatus",
    "SessionStream",
    "SettingsChange",
    "Sleep",
    "TooLong",
    "Totals",
    "UnknownSession",
    "Window",
    "check_name",
    "no_checkpoint",
)
