"""JSON over HTTP with patience and limits: retries, deadlines, a bound on what is read.

>>> client = JsonClient(timeout=10, retries=5)
>>> answer = client.request("GET", "http://127.0.0.1:8000/v2/models/victim")  # doctest: +SKIP

What is worth another try (429, 5xx, timeouts, dropped connections) is tried again after twice the
time, or after what ``Retry-After`` says; what is not fails at once, with the reason.
"""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from doorward.errors import EndpointFailed, InvalidInput

__all__ = ["JsonClient"]

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 60.0
_AGAIN = "check that the server is up, and run the same command again"


class JsonClient:
    """Sends JSON, receives JSON objects.

    Args:
        timeout: seconds for one attempt, and for each of connecting, sending and receiving in it.
        retries: attempts after the first.
        backoff: seconds before the first retry; doubled for each later one, up to 60.
        max_bytes: largest response that is read.
        headers: sent with every request, e.g. ``{"Authorization": "Bearer ..."}``; never shown.
        sleep: how to wait.

    Raises:
        InvalidInput: a number is out of range.
    """

    def __init__(
        self,
        *,
        timeout: float = 10.0,
        retries: int = 5,
        backoff: float = 0.5,
        max_bytes: int = 64 * 2**20,
        headers: Mapping[str, str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not (timeout > 0 and retries >= 0 and backoff >= 0 and max_bytes > 0):
            raise InvalidInput(
                f"timeout={timeout}, retries={retries}, backoff={backoff}, max_bytes={max_bytes}",
                why="timeout and max_bytes are positive, retries and backoff not negative",
            )
        import httpx

        self.timeout, self.retries, self.backoff = timeout, retries, backoff
        self.max_bytes, self._sleep = max_bytes, sleep
        # Uncompressed, so that a small answer cannot unpack into a large one.
        fixed = {"Accept": "application/json", "Accept-Encoding": "identity"}
        self._client = httpx.Client(timeout=timeout, headers={**(headers or {}), **fixed})
        self._reached = False

    def close(self) -> None:
        """Close the kept-alive connections."""
        self._client.close()

    def request(self, method: str, url: str, body: bytes | None = None) -> dict[str, Any]:
        """Send one request, again where that may help.

        Args:
            method: GET or POST.
            url: the whole address.
            body: JSON, or None.

        Returns:
            The JSON object that came back.

        Raises:
            EndpointFailed: it did not answer, refused, or answered what is no JSON object.
        """
        import httpx

        where = shown(url)
        for attempt in range(self.retries + 1):
            wait = min(self.backoff * 2**attempt, _LONGEST_WAIT)
            try:
                status, headers, content = self._attempt(method, url, body)
            except httpx.ConnectError as error:
                failure = EndpointFailed(
                    f"{where} could not be reached", why=_reason(error), remedy=_AGAIN
                )
                if not self._reached:  # a wrong address does not get right by asking again
                    raise failure from error
            except httpx.TimeoutException:
                failure = EndpointFailed(
                    f"{where} did not answer in {self.timeout:g} seconds",
                    why=f"tried {attempt + 1} time(s)",
                    remedy="give a longer timeout or smaller batches",
                )
            except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
                raise EndpointFailed(
                    f"{where} cannot be called",
                    why=_reason(error),
                    remedy="check the address and the headers",
                ) from error
            except httpx.HTTPError as error:
                failure = EndpointFailed(
                    f"{where} broke the connection", why=_reason(error), remedy=_AGAIN
                )
            else:
                self._reached = True
                if status == 200:
                    return _parse(where, content)
                failure = _refusal(where, status, content)
                if status not in _RETRIED:
                    raise failure
                wait = _asked_wait(where, headers.get("retry-after"), wait)
            if attempt < self.retries:
                self._sleep(wait)
        raise failure

    def _attempt(
        self, method: str, url: str, body: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        import httpx

        headers = {"Content-Type": "application/json"} if body is not None else {}
        deadline = time.monotonic() + 2 * self.timeout
        with self._client.stream(method, url, content=body, headers=headers) as response:
            content = bytearray()
            for chunk in response.iter_raw():
                content += chunk
                if len(content) > self.max_bytes:
                    raise EndpointFailed(
                        f"{shown(url)} sent more than {self.max_bytes} bytes",
                        why="an answer of labels or logits is smaller",
                        remedy="check the address, or raise max_bytes",
                    )
                if time.monotonic() > deadline:  # a server that drips never times out by itself
                    raise httpx.ReadTimeout("the answer did not end")
            return response.status_code, response.headers, bytes(content)


def shown(url: str) -> str:
    """The address without user, password, query and fragment.

    >>> shown("https://me:secret@host/v2/models/m?token=1")
    'https://host/v2/models/m'
    """
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    bare = host.rpartition("@")[2] + slash + path
    return f"{scheme}://{bare.partition('?')[0].partition('#')[0]}"


def _parse(where: str, content: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(content)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise EndpointFailed(
            f"{where} answered what is no JSON",
            why=f"{error}; it begins {content[:60]!r}",
            remedy="check that the address is that of an Open Inference Protocol (v2) server",
        ) from error
    if not isinstance(answer, dict):
        raise EndpointFailed(
            f"{where} answered a JSON {type(answer).__name__}", why="an object is expected"
        )
    return answer


def _refusal(where: str, status: int, content: bytes) -> EndpointFailed:
    said = ""
    with suppress(ValueError, RecursionError, AttributeError):
        # Shown in a terminal: a stranger's text may not bring escape sequences or lines of its own.
        words = str(json.loads(content).get("error", ""))[:200]
        said = "".join(sign if sign.isprintable() else " " for sign in words)
    remedies = {
        401: "give the credentials in headers",
        403: "give the credentials in headers",
        404: "check the address and the model's name",
        413: "use a smaller batch_size",
        429: "ask more slowly, or raise retries",
    }
    remedy = remedies.get(status, "look at the server's log" if status >= 500 else "")
    return EndpointFailed(f"{where} answered HTTP {status}", why=said, remedy=remedy)


def _asked_wait(where: str, header: str | None, default: float) -> float:
    """Seconds to wait by a Retry-After header (a number or a date), else `default`."""
    if not header:
        return default
    if header.strip().isascii() and header.strip().isdigit():
        seconds = float(header)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return default
    if seconds > _LONGEST_WAIT:
        raise EndpointFailed(
            f"{where} asks to wait {seconds:.0f} seconds",
            why=f"more than {_LONGEST_WAIT:.0f} are not waited for",
            remedy="run the same command again later",
        )
    return max(seconds, 0.0)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
