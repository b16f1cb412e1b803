"""The export room: a checkpoint becomes one portable recurrent step, and the step an engine.

    p2 export artifacts/charlm --fp16

`fold` rearranges the trained weights, `step` is the torch module that is traced, `graph` traces
it and types the graph, `quantize` puts integer weights into it, `verify` compares the result with the
eager model before it is written, `builder` turns it into a TensorRT engine.
"""

from ..callable_room import make_callable

make_callable(__name__)
