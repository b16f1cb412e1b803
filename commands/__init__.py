"""The commands room: one thin file a command, which reads its options, calls one thing and prints.

The logic of two that no other room is about lies beside them: `inspection` and `demonstration`.
"""
