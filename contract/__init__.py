"""The contract room: what every room agrees on, and nothing heavier than numpy.

`card` says what a model is, `codec` turns text into tokens and back, `noise` makes the random
numbers that every backend consumes, `sampling` defines how a character is chosen, `engine` is
the protocol that every backend implements, `files` writes whole files or none, `locks` end
with the process that holds them, `documents` reads JSON
that anybody may have written, `errors` are the answers to bad input.
"""
