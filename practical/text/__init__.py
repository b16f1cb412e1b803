"""Text from a character model that over-fits a book: trained, exported, written by the engine, analysed.

    p2 practical text book.txt

- `options`: what is asked for, and the sizes that there are; `clock`: what a run took, over its pieces;
- `training`: the run on the book, begun or gone on with;
- `ceiling`: how well any model could predict from a zero state; `windows`: how well an engine does;
- `writing`: the texts, through the exported engine; `excerpts`: those of them that the tables show;
- `slurs`: which they do not show;
- `loops`, `copies`, `wording`: what is measured about a text;
- `measure`: all of that for one engine; `run`: the whole experiment, into the document;
- `claims`, with `seed` (the report's figures), `evidence` and `about_*`: what is said of its results;
- `plots`: what is drawn of them.
"""
