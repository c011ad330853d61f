"""What makes actors run: the shared core, one actor's mailbox and work, how it ends."""
