"""The trainer: a text goes in, a checkpoint of a recurrent character model comes out.

Try ``p2 train`` (an LSTM on the documentation inside Python itself, a few minutes on two cores), or
``p2 train novel.txt --cell gru --hidden 512``.

`options`, `ranges` and `presets` are what is asked, `sources` finds texts, `reader` reads them
(`unfolding`, `tables`, `encodings`, `faults`), `corpus` keeps them as tokens in memory, `tokenizing`
and `token_file` on the disk, `windows` cuts them into batches, `cells`, `dropout` and `model` are the
network, `schedule` is the learning rate, `adam` the optimiser, `learner` does one update, `loop` does
many and keeps the run folder, `takeover` gives a new run its folder without losing the one that was
there, `checkpoint` is the format on disk, `eager` runs a checkpoint behind the engine protocol: the
reference that every exported engine is compared with.
"""

import os

# PyTorch's recurrent layers have thousands of tiny parallel regions. The OpenMP library that it brings
# on Linux spins between them; when another program wants a core as well, that makes training up to
# twenty times slower. This little spinning costs nothing on a quiet machine (docs/notes/2026-11-22.md).
# It has to be said before torch is loaded, and gives way to what the person has set.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
