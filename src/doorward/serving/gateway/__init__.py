"""The inference gateway: the Open Inference Protocol over ONNX Runtime, for models worth stealing.

    doorward serve net.onnx --honeypot guarded.onnx --tenants tenants.json --port 8000

In Python, an ASGI application for any server:

    gateway = Gateway(
        Graphs.load("net.onnx", ["guarded.onnx"]),
        database=Database("gateway.sqlite"),
        secret=read_secret("gateway.secret", make=True),
        tenants=TenantBook.load("tenants.json"),
    )
    app = create_app(gateway)

Every tenant has a budget and a mode of answers, and stands on a stage: the clean model, a honeypot,
or labels alone. Monitors move it up. What was answered is in the evidence log before it is sent.
"""

from doorward.serving.gateway.application import create_app, serve
from doorward.serving.gateway.evidence import EvidenceCheck, EvidenceLog
from doorward.serving.gateway.gateway import Gateway
from doorward.serving.gateway.graphs import Graph, Graphs, onnx_of
from doorward.serving.gateway.monitors import Drift, Monitors, Prada, Reference, Share, reference_of
from doorward.serving.gateway.policies import POLICIES, AnswerPolicy
from doorward.serving.gateway.refusals import Refusal
from doorward.serving.gateway.secrets import read_secret
from doorward.serving.gateway.settings import Settings
from doorward.serving.gateway.sources import Sources
from doorward.serving.gateway.tenants import Tenant, TenantBook, add_tenant, revoke_tenant

__all__ = [
    "POLICIES",
    "AnswerPolicy",
    "Drift",
    "EvidenceCheck",
    "EvidenceLog",
    "Gateway",
    "Graph",
    "Graphs",
    "Monitors",
    "Prada",
    "Reference",
    "Refusal",
    "Settings",
    "Share",
    "Sources",
    "Tenant",
    "TenantBook",
    "add_tenant",
    "create_app",
    "onnx_of",
    "read_secret",
    "reference_of",
    "revoke_tenant",
    "serve",
]
