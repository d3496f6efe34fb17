"""The Open Inference Protocol (KServe v2, REST) in and out, JSON and binary, without any server.

>>> import json, numpy as np
>>> body = json.dumps({"inputs": [{"name": "images", "shape": [1, 1, 1, 2], "datatype": "FP32",
...                                "data": [0.25, 0.75]}]}).encode()
>>> request = read_request(body)
>>> request.inputs["images"].tolist()
[[[[0.25, 0.75]]]]
>>> answer = write_response("net", "1", [Output("labels", np.array([3]), binary=False)])
>>> json.loads(answer.body)["outputs"]
[{'name': 'labels', 'datatype': 'INT64', 'shape': [1], 'data': [3]}]

Requests come from strangers: whatever is malformed is a `Refusal` with a status below 500.
"""

from doorward.serving.gateway.protocol.compression import unpacked
from doorward.serving.gateway.protocol.reading import Asked, Request, read_request
from doorward.serving.gateway.protocol.writing import Output, Reply, write_response

__all__ = [
    "Asked",
    "Output",
    "Reply",
    "Request",
    "read_request",
    "unpacked",
    "write_response",
]
