"""The desk from a party's side: a thin client that signs its requests.

::

    with DeskClient("https://desk.example", identity) as desk:
        desk.register()
        deal = desk.post("/v1/deals", document)
        desk.upload(f"/v1/deals/{deal['id']}/goods/trial", path)

It needs none of the server's packages. The desk's fingerprint is part of every signature; give the
one that you were told over another channel, else the one that the desk itself states is taken.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx

from doorward.bundles.identity import Identity, PublicIdentity
from doorward.bundles.signed import check_document
from doorward.errors import DoorwardError, EndpointFailed, IntegrityError
from doorward.files import atomic_file, canonical_json, sha256_file
from doorward.serving.desk.signatures import sign_request

__all__ = ["DeskClient", "DeskRefused"]


class DeskRefused(DoorwardError):
    """The desk answered, and said no.

    Attributes:
        status: of HTTP.
        code: what kind of no (see `doorward.trading.protocol.DealRefused`).
    """

    status: int = 0
    code: str = ""


class DeskClient:
    """Signed requests to one desk.

    Args:
        url: of the desk.
        identity: who asks; None: only what is public.
        desk: the desk's fingerprint, if known; a desk with another one is refused.
        http: an `httpx.Client` to use (for tests); closed by whoever made it.
        clock: seconds since 1970.

    Raises:
        EndpointFailed: nothing answers there, or not a desk.
        IntegrityError: the desk is another one than `desk`.
    """

    def __init__(
        self,
        url: str,
        identity: Identity | None = None,
        *,
        desk: str | None = None,
        http: httpx.Client | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._own = http is None
        self._http = http or httpx.Client(timeout=httpx.Timeout(60, connect=10))
        self._url, self._identity, self._clock = url.rstrip("/"), identity, clock
        self.about: dict[str, Any] = self.get("/v1/desk", sign=False)
        try:
            self.public = PublicIdentity.from_dict(self.about["identity"])
            self.public.check()
            self.head = check_document(self.about["head"], self.public, purpose="desk-log-head")
        except (DoorwardError, KeyError, TypeError) as error:
            raise EndpointFailed(f"{url} is not a trading desk", remedy="check the URL") from error
        if desk is not None and self.public.fingerprint != desk:
            raise IntegrityError(
                f"{url} is another desk",
                why=f"expected {desk[:16]}, found {self.public.fingerprint[:16]}",
                remedy="do not trade there",
            )

    def get(self, path: str, *, sign: bool = True) -> Any:
        """The JSON at a path."""
        return _json(self._send("GET", path, b"", sign=sign))

    def post(self, path: str, content: Mapping[str, Any] | None = None) -> Any:
        """Send JSON (or nothing), get JSON."""
        body = b"" if content is None else canonical_json(dict(content))
        return _json(self._send("POST", path, body))

    def upload(self, path: str, file: Path) -> Any:
        """Send a file as it is, get JSON."""
        sha256 = sha256_file(file)
        with file.open("rb") as stream:
            headers = self._signed("PUT", path, sha256)
            headers["Content-Length"] = str(file.stat().st_size)
            with _answers(self._url):
                response = self._http.put(self._url + path, content=stream, headers=headers)
        return _json(_checked(response))

    def download(self, path: str, target: Path, *, sha256: str) -> None:
        """Fetch a file, and keep it only if it is what the listing says.

        Raises:
            IntegrityError: its digest is another; nothing is left.
        """
        digest = hashlib.sha256()
        with _answers(self._url), atomic_file(target, private=True) as place:
            headers = self._signed("GET", path, hashlib.sha256(b"").hexdigest())
            with self._http.stream("GET", self._url + path, headers=headers) as response:
                if response.status_code != 200:
                    response.read()
                _checked(response)
                with place.open("wb") as stream:
                    for chunk in response.iter_bytes():
                        digest.update(chunk)
                        stream.write(chunk)
            if digest.hexdigest() != sha256:
                raise IntegrityError(
                    "the desk sent another file than the listing names",
                    why=f"expected {sha256[:16]}, got {digest.hexdigest()[:16]}",
                    remedy="do not use it; dispute the deal",
                )

    def register(self) -> Any:
        """Open an account."""
        return self.post("/v1/accounts", self._who().public.to_dict())

    def close(self) -> None:
        """Close the connections."""
        if self._own:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _who(self) -> Identity:
        if self._identity is None:
            raise DoorwardError("this needs an identity", remedy="give --identity")
        return self._identity

    def _signed(self, method: str, path: str, body: bytes | str) -> dict[str, str]:
        who, now = self._who(), int(self._clock())
        return sign_request(who, self.public.fingerprint, method, path, body, now=now)

    def _send(self, method: str, path: str, body: bytes, *, sign: bool = True) -> httpx.Response:
        headers = self._signed(method, path, body) if sign else {}
        if body:
            headers["Content-Type"] = "application/json"
        with _answers(self._url):
            response = self._http.request(method, self._url + path, content=body, headers=headers)
        return _checked(response)


@contextmanager
def _answers(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise EndpointFailed(
            f"the desk at {url} does not answer",
            why=str(error),
            remedy="check the URL; if you were paying, look at the status before trying again",
        ) from error


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    try:
        said = response.json()["error"]
        refused = DeskRefused(str(said["what"]), why=str(said["why"]), remedy=str(said["remedy"]))
        refused.code = str(said["code"])
    except (ValueError, KeyError, TypeError):
        refused = DeskRefused(f"the desk answered with status {response.status_code}")
    refused.status = response.status_code
    raise refused


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except json.JSONDecodeError as error:
        raise EndpointFailed("the desk's answer is not JSON", remedy="check the URL") from error
