"""What actors and their users name: messages, exit reasons, errors, refs, time."""
