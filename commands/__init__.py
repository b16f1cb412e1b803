"""The commands room: one thin file a command, which reads its options, calls one thing and prints."""
