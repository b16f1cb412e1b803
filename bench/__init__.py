"""`p2 bench`: p2 beside everything else a person could use, on the same weights, in one run.

- `contender`: the small protocol that every competitor implements; `contenders/` holds them;
- `options`, `plugins`, `models`: what was asked for: settings, contenders, weights;
- `rates`, `copying`, `startup`, `training`, `quality`: what is measured besides the contenders' speed;
- `wire`, `worker`, `remote`, `race`, `run`: a process per contender, taking turns;
- `document`, `entries`, `reading`: the JSON that comes out, with its schema;
- `figures`, `targets`, `gpu_targets`: what is read out of it, and which promises are kept;
- `plots`, `html`, `html_parts`, `markdown`, `compare`: what is made of it;
- `profile`: where a step's time goes, operator by operator.
"""
