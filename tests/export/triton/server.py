"""A gRPC server made from Triton's definitions, which plays a repository with `simulator`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from .simulator import BackendRequest, Request, Steps, load_model, read_config

NUMPY = {"INT32": np.int32, "INT64": np.int64, "UINT64": np.uint64, "FP64": np.float64, "BOOL": np.bool_}


class Server(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, repository: Path, name: str) -> None:
        self.name = name
        self.steps = Steps(repository / f"{name}_step")
        self.texts = load_model(repository / name)
        self.known = {one.name: one for one in read_config(repository / name).input}

    def ModelInfer(self, request, context):
        assert request.model_name == f"{self.name}_step"
        (given,) = request.inputs
        assert (given.name, given.datatype, list(given.shape)) == ("token", "INT64", [1, 1])
        options = request.parameters
        one = Request(
            options["sequence_id"].int64_param,
            int(np.frombuffer(request.raw_input_contents[0], np.int64)[0]),
            options["sequence_start"].bool_param,
            options["sequence_end"].bool_param,
        )
        self.steps.submit(one)
        while not one.answered.is_set():
            self.steps.step()
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        output = response.outputs.add(name="logits", datatype="FP32", shape=[1, len(one.logits)])
        response.raw_output_contents.append(one.logits.astype(np.float32).tobytes())
        assert output.name in {out.name for out in self.steps.config.output}
        return response

    def ModelStreamInfer(self, requests, context):
        for request in requests:
            assert request.model_name == self.name
            inputs = {}
            for given, data in zip(request.inputs, request.raw_input_contents, strict=True):
                assert given.name in self.known
                if given.datatype == "BYTES":
                    inputs[given.name] = deserialize_bytes_tensor(data)
                else:
                    inputs[given.name] = np.frombuffer(data, NUMPY[given.datatype])
            asked = BackendRequest(inputs)
            self.texts.execute([asked])
            while (piece := asked.sender.sent.get(timeout=30)) is not None:
                yield self._answer(request, piece)
            if asked.sender.problem:
                yield service_pb2.ModelStreamInferResponse(error_message=asked.sender.problem)
            else:
                yield self._answer(request, None)

    def _answer(self, request, piece):
        response = service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
        response.parameters["triton_final_response"].bool_param = piece is None
        if piece is not None:
            response.outputs.add(name="text", datatype="BYTES", shape=[1])
            encoded = serialize_byte_tensor(np.array([piece.encode()], dtype=object))
            response.raw_output_contents.append(encoded.item())
        return service_pb2.ModelStreamInferResponse(infer_response=response)


@contextlib.contextmanager
def serving(repository: Path, name: str) -> Iterator[int]:
    """The port of a server on this machine."""
    servicer = Server(repository, name)
    server = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()
        servicer.texts.finalize()
