"""What an ONNX file says about itself in its metadata: checksums, and a probe of what it computes.

The ONNX format has no checksum. `p2 export` writes one over graph and metadata, so no damage goes unnoticed.
But tools rewrite a graph (simplifiers, quantisers) or add to the metadata, and that is no damage. So a file
also carries a checksum of p2's own fields alone, the graph's size and checksum, and a probe: a few tokens and
the logits that follow them. Damage hardly ever changes the size of a graph, a tool hardly ever keeps it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, TypedDict

from .card import CHECKSUM
from .documents import check, parse
from .errors import ContractError
from .schema import Count, Within

FIELDS = "p2.fields_sha256"  # key of the checksum over p2's own fields, without it and `CHECKSUM`
GRAPH = "p2.graph"  # key of the graph's size and checksum
PROBE = "p2.probe"  # key of the probe; a file without one has neither of the two above

PROBE_TOKENS, PROBE_LOGITS = 16, 64

WHOLE, CHANGED, DAMAGED = "whole", "changed", "damaged"


class Probe(TypedDict):
    """What a step said when it was exported.

    ``logits`` are those of the first characters of the vocabulary, after the last of ``tokens``, which began
    at a zero state.
    """

    tokens: Annotated[list[Count], Within(1, PROBE_TOKENS)]
    logits: Annotated[list[float], Within(1, PROBE_LOGITS)]


class _Graph(TypedDict):
    bytes: Count
    sha256: str


def stamped(metadata: dict[str, str], graph: bytes | memoryview) -> dict[str, str]:
    """The metadata with all checksums written anew.

    Args:
        metadata: of the file, string pairs.
        graph: the encoded GraphProto.
    """
    fields = {name: text for name, text in metadata.items() if name not in (CHECKSUM, FIELDS, GRAPH)}
    digest = hashlib.sha256(graph)
    if PROBE in fields:
        fields[GRAPH] = json.dumps({"bytes": len(graph), "sha256": digest.hexdigest()})
        fields[FIELDS] = _sum(fields)
    digest.update(_encoded(fields))
    return fields | {CHECKSUM: json.dumps(digest.hexdigest())}


def condition(metadata: dict[str, str], graph: bytes | memoryview, where: str) -> str:
    """`WHOLE`, `CHANGED` by a tool after the export, or `DAMAGED`.

    Foreign entries in the metadata leave a file whole. A file without a probe is whole or damaged.
    """
    digest = hashlib.sha256(graph)
    whole = digest.copy()
    whole.update(_encoded({name: text for name, text in metadata.items() if name != CHECKSUM}))
    if json.dumps(whole.hexdigest()) == metadata.get(CHECKSUM):
        return WHOLE
    if metadata.get(FIELDS) != _sum(metadata) or not {GRAPH, PROBE} <= metadata.keys():
        return DAMAGED
    known: _Graph = check(parse(metadata[GRAPH].encode(), where), _Graph, where)
    if known["bytes"] == len(graph):
        return WHOLE if known["sha256"] == digest.hexdigest() else DAMAGED
    return CHANGED


def read_probe(metadata: dict[str, str], vocab: int, where: str) -> Probe:
    """The probe of a file that has one.

    Raises:
        ContractError: it does not fit the model.
    """
    probe: Probe = check(parse(metadata[PROBE].encode(), where), Probe, where)
    if max(probe["tokens"]) >= vocab or len(probe["logits"]) > vocab:
        raise ContractError(f"{where} is damaged: its probe is not of this model")
    return probe


def _sum(metadata: dict[str, str]) -> str:
    own = {n: text for n, text in metadata.items() if n.startswith("p2.") and n not in (CHECKSUM, FIELDS)}
    return json.dumps(hashlib.sha256(_encoded(own)).hexdigest())


def _encoded(metadata: dict[str, str]) -> bytes:
    return json.dumps(metadata, sort_keys=True).encode()
