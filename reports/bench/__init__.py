"""`p2 bench`: p2 beside everything else a person could use, on the same weights, in one run.

- `contender`: the small protocol that every competitor implements; `contenders/` holds them;
- `models`: the models measured, from checkpoints or made for a shape;
- `rates`: what the machine itself can do: memory bandwidth, matrix products;
- `worker`, `run`: a process per contender, taking turns;
- `document`: the JSON that comes out, with its schema;
- `targets`, `plots`, `html`, `markdown`, `compare`: what is made of it.
"""
