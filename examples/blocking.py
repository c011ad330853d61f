"""The same from a program that has no event loop."""

from greenroom.runtime import SyncRuntime, TextDelta

with SyncRuntime() as rt:
    print(rt.chat(None, "Name a colour.", max_tokens=20).text)
    with rt.stream(None, "Name another.", max_tokens=20) as events:
        for event in events:
            if isinstance(event, TextDelta):
                print(event.text, end="", flush=True)
    print()
