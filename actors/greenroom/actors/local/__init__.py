"""Models that run on this machine: a server for each, in a child process, started when it is first asked.

`local/models/tiny.gguf` runs a GGUF file through llama.cpp (xllamacpp, extra `local`); `local/hf:ORG/NAME`, or a folder
that transformers saved, runs through transformers' own server (extra `transformers`). Both speak OpenAI's wire.

xllamacpp is MIT, one wheel of 34 MB (100 MB installed) for every Python from 3.10 on, released monthly with the newest
llama.cpp in it. llama-cpp-python would be the other: PyPI has its sources alone, which need a compiler, and its server
is one of its own, where this one is llama.cpp's.
"""

from greenroom.actors.local.actor import Loaded, Local, Served, Unused, Use
from greenroom.actors.local.line import LocalLine, addressed
from greenroom.actors.local.sources import list_local

__all__ = ["Loaded", "Local", "LocalLine", "Served", "Unused", "Use", "addressed", "list_local"]
