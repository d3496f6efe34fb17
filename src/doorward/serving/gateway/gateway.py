"""The gateway itself, without HTTP: who may ask, what answers, what is written down.

    async with Gateway(graphs, database=Database("sqlite://"), secret=Secret.new()) as gateway:
        reply = await gateway.infer(gateway.tenant(key), request)

An answer takes this way: budget, stage, graph of the stage's policy, batch, what the policy and
the tenant's mode leave of the probabilities, evidence and monitors, reply.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from doorward.errors import InvalidInput, ModelUnsuitable, StorageFailed
from doorward.randomness import Secret
from doorward.serving.database import Database
from doorward.serving.gateway.accounts import Accounts
from doorward.serving.gateway.asking import read_images, read_outputs, signature
from doorward.serving.gateway.batching import Batcher
from doorward.serving.gateway.evidence import EvidenceLog
from doorward.serving.gateway.graphs import Graphs
from doorward.serving.gateway.metrics import Metrics
from doorward.serving.gateway.monitors import Reading, Reference
from doorward.serving.gateway.policies import POLICIES
from doorward.serving.gateway.protocol import Output, Reply, Request, write_response
from doorward.serving.gateway.recording import Answered, Recorder, Watches
from doorward.serving.gateway.refusals import Refusal
from doorward.serving.gateway.settings import Settings
from doorward.serving.gateway.tenants import Tenant, TenantBook

__all__ = ["Gateway"]

_log = logging.getLogger("doorward.gateway")


class Gateway:
    """Answers tenants from the graphs of one model.

    Args:
        graphs: what answers.
        database: for evidence, budgets and stages; shared by all gateways of one deployment.
        secret: shared likewise; heads, salts and the seal of the evidence derive from it.
        tenants: who may ask; anybody, if there are none.
        settings: everything else.
        reference: what honest traffic looks like, for the monitors `share` and `drift`.

    Raises:
        UnknownName: the ladder names a policy that does not exist.
        InvalidInput: the reference has other classes than the model.
        IntegrityError: the evidence in the database was not written with this secret.
    """

    def __init__(
        self,
        graphs: Graphs,
        *,
        database: Database,
        secret: Secret,
        tenants: TenantBook | None = None,
        settings: Settings | None = None,
        reference: Reference | None = None,
    ) -> None:
        self.graphs, self.secret = graphs, secret
        self.settings = settings or Settings()
        self.tenants = tenants or TenantBook()
        self._ladder = [(name, POLICIES[name]) for name in self.settings.ladder]
        if reference is not None and len(reference.shares) != graphs.clean.classes:
            raise InvalidInput(
                f"the reference has {len(reference.shares)} classes",
                why=f"the model has {graphs.clean.classes}",
                remedy="measure it again: doorward gateway reference",
            )
        self.metrics = Metrics()
        self.log = EvidenceLog(database, secret)
        self.accounts = Accounts(self.log)
        self.ready = False
        self._watches = Watches(
            self.settings.monitors,
            top=len(self._ladder) - 1,
            secret=secret,
            reference=reference,
            seen=self._note_reading,
        )

    async def __aenter__(self) -> Gateway:
        settings = self.settings
        async with AsyncExitStack() as stack:
            # Left in the opposite order: the last batches are answered, then their rows written.
            self._recorder = await stack.enter_async_context(
                Recorder(self.log, self._watches, watch=self._note_commit)
            )
            self._batcher = await stack.enter_async_context(
                Batcher(
                    max_batch=settings.max_batch,
                    max_delay=settings.max_delay,
                    max_waiting=settings.max_waiting,
                    watch=self._note_batch,
                )
            )
            self._stack = stack.pop_all()
        self.ready = True
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Answer and write down what was accepted, then stop."""
        self.ready = False
        await self._stack.aclose()

    def tenant(self, key: str | None) -> Tenant:
        """Whose key this is.

        Raises:
            Refusal: 401, nobody's.
        """
        tenant = self.tenants.find(key)
        if tenant is None:
            raise Refusal(
                "the API key is not known" if key else "there is no API key",
                remedy="send the header Authorization: Bearer KEY",
                status=401,
            )
        return tenant

    def metadata(self, tenant: Tenant) -> dict[str, Any]:
        """The model's metadata as the tenant sees it; the same at every stage."""
        inputs, outputs = signature(self.graphs.clean, tenant)
        return {
            "name": self.settings.model,
            "versions": [self.graphs.version],
            "platform": "onnxruntime_onnx",
            "inputs": inputs,
            "outputs": outputs,
        }

    async def infer(self, tenant: Tenant, request: Request) -> Reply:
        """Answer a request.

        Raises:
            Refusal: it is not answered; the status says whose fault that is.
        """
        graphs = self.graphs  # these answer, whatever is loaded meanwhile
        images = read_images(request, graphs.clean, self.settings)
        wanted = read_outputs(request, tenant)
        try:
            async with (
                asyncio.timeout(self.settings.time_limit),
                self.accounts.charging(tenant, len(images)) as account,
            ):
                stage = min(max(account.stage, tenant.stage), len(self._ladder) - 1)
                answered = await self._answer(graphs, tenant, stage, images, request)
                account.settle(await self._recorder.record(answered))
        except TimeoutError:
            raise Refusal(
                f"there was no answer within {self.settings.time_limit:g} seconds",
                remedy="send fewer images, or send them again later",
                status=503,
                retry_after=self.settings.time_limit,
            ) from None
        except ModelUnsuitable as error:
            raise Refusal(error.what, why=error.why, remedy=error.remedy, status=422) from error
        except StorageFailed as error:
            raise Refusal(
                "the answer could not be written down, so it is not given",
                remedy="send it again a little later",
                status=503,
                retry_after=2,
            ) from error
        self.metrics.images.inc(len(images))
        self.metrics.by_tenant.labels(tenant.name, self._ladder[stage][0]).inc(len(images))
        self.metrics.used.labels(tenant.account).set(account.used)
        self.metrics.stage.labels(tenant.account).set(max(account.stage, tenant.stage))
        tensors = {"labels": answered.answers, "probabilities": answered.answers}
        if answered.answers.ndim == 2:
            tensors["labels"] = answered.answers.argmax(1)
        outputs = [Output(asked.name, tensors[asked.name], bool(asked.binary)) for asked in wanted]
        return write_response(self.settings.model, graphs.version, outputs, name=request.id)

    def reload(self, graphs: Graphs) -> None:
        """Answer from other graphs from now on; what is being answered is finished by the old.

        Raises:
            InvalidInput: they take other images or have other classes, which clients and monitors
                would trip over; the old ones go on.
        """
        if graphs.clean.signature() != self.graphs.clean.signature():
            self.metrics.reloads.labels("refused").inc()
            raise InvalidInput(
                f"{graphs.clean.path} takes other images or has other classes",
                why="a model is replaced by one of the same signature",
                remedy="serve it under another name by another gateway",
            )
        self.graphs = graphs
        self.metrics.reloads.labels("done").inc()
        _log.info("answering from %s, version %s", graphs.clean.path, graphs.version)

    async def _answer(
        self,
        graphs: Graphs,
        tenant: Tenant,
        stage: int,
        images: NDArray[np.float32],
        request: Request,
    ) -> Answered:
        name, policy = self._ladder[stage]
        head = policy.head(tenant.account, len(graphs.honeypots), self.secret)
        graph = graphs.clean if head is None else graphs.honeypots[head]
        self.metrics.waiting.set(self._batcher.waiting)
        probabilities = await self._batcher.run(graph, images)
        shaped = policy.answer(probabilities, images, tenant.account, self.secret)
        answers = tenant.mode.limit(torch.from_numpy(shaped)).numpy()
        facts = {
            "model": self.settings.model,
            "graph": graph.digest,
            "policy": name,
            "answers": str(tenant.mode),
            **({"id": request.id} if request.id is not None else {}),
        }
        return Answered(tenant, stage, images, probabilities, answers, facts)

    def _note_reading(self, tenant: Tenant, reading: Reading) -> None:
        self.metrics.reading.labels(tenant.account, reading.monitor).set(reading.statistic)
        if reading.alarm:
            self.metrics.alarms.labels(tenant.account, reading.monitor).inc()

    def _note_batch(self, images: int, seconds: float) -> None:
        self.metrics.batch_images.observe(images)
        self.metrics.batch_seconds.observe(seconds)

    def _note_commit(self, answers: int, seconds: float) -> None:
        self.metrics.commit_seconds.observe(seconds)
