"""The render room: what the rooms that measure show their findings with, each thing once.

`terminal` and `progress` are for a terminal, `numbers` says how figures are printed, `machine`
where they were measured, `html` and `markdown` hold the pieces of every page. Pictures are drawn by
`trainer.drawing`, for the training curve is one.
"""
