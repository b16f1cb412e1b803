"""`make gpu-check`: every check that needs an NVIDIA GPU, in one command, with no network.

    python3 gpu_check

- `check`: what one check is, and what came of it;
- `options`, `backends`, `plan`: what can run on this machine, which checks that means, and what is missing;
- `models`, `engine_checks`, `processes`, `noise`, `soak`, `benchmark`: the checks themselves;
- `worker`, `isolate`: a process for each check, so that a library that crashes takes only that one along;
- `run`, `report`: all of them in turn; one JSON file, written after each, and one page of Markdown.

`--rehearse` runs the same checks over engines on the processor, which is how they are tested.
"""
