"""How well engines predict a text: bits per character, and where they come from.

`scores` adds up, `predictor` is an engine that predicts a text piece by piece, `run` has several predict one
text, `report` shows what was found.
"""
