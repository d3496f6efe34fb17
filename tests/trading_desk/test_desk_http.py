"""The desk over HTTP: a whole deal, and everything that must be refused."""

import hashlib
import hmac
import itertools
import json
import re
import shutil
import socket
import subprocess
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image
from tests.trading_desk.conftest import make_scene, serving
from tests.trading_desk.goods import GOODS, KEY, NOW, TRIAL, make_listing, sha256

from doorward.errors import EndpointFailed, IntegrityError
from doorward.randomness import Secret
from doorward.serving.desk import DeskClient, Funding, WebhookRail, create_app
from doorward.serving.desk.client import DeskRefused
from doorward.serving.desk.limits import RateLimiter
from doorward.serving.desk.refusals import TooMany
from doorward.serving.desk.signatures import sign_request
from doorward.trading.protocol import sign_listing


class Acme(WebhookRail):
    name = "acme"

    def read(self, body):
        event = json.loads(body)
        if event["type"] != "payment.succeeded":
            return None
        return Funding(account=event["reference"], cents=event["amount"], key=event["id"])


@contextmanager
def opened(tmp_path, ada, bob, desk_identity):
    """A served desk, funded, and clients of seller and buyer."""
    rail = Acme(Secret(b"webhook secret 1"))
    scene = make_scene(
        tmp_path / "d.sqlite", tmp_path, desk_identity, ada, bob, rails=[rail],
        max_key_bytes=1000, max_json_bytes=20_000, requests_per_minute=1000,
    )  # fmt: skip
    scene.fund()
    with (
        serving(create_app(scene.desk, sweep_seconds=None)) as scene.url,
        httpx.Client() as scene.http,
    ):
        scene.sells, scene.buys = (
            DeskClient(scene.url, who, desk=desk_identity.public.fingerprint, http=scene.http,
                       clock=lambda: scene.clock[0])
            for who in (ada, bob)
        )  # fmt: skip
        yield scene
    scene.desk.database.close()


@pytest.fixture
def site(tmp_path, ada, bob, desk_identity):
    with opened(tmp_path, ada, bob, desk_identity) as scene:
        yield scene


@pytest.fixture(scope="module")
def lasting(tmp_path_factory, ada, bob, desk_identity):
    """One for tests that change nothing but the deals they make."""
    with opened(tmp_path_factory.mktemp("desk"), ada, bob, desk_identity) as scene:
        scene.serials = itertools.count()
        scene.fund()
        yield scene


def put(site, deal, artefact, tmp_path, content=None, client=None):
    file = tmp_path / f"{artefact}.bin"
    file.write_bytes(GOODS[artefact] if content is None else content)
    return (client or site.sells).upload(f"/v1/deals/{deal}/goods/{artefact}", file)


def refused(status, call, *arguments, **named):
    with pytest.raises(DeskRefused) as caught:
        call(*arguments, **named)
    assert caught.value.status == status, str(caught.value)
    return caught.value


def raw(site, method, path, *, who, body=b"", sent=None, headers=(), **changes):
    """A request signed over what it says, but sent as something else."""
    desk = changes.get("desk", site.desk.fingerprint)
    signed_path = changes.get("signed_path", path)
    now = changes.get("now", NOW)
    fields = {**sign_request(who, desk, method, signed_path, body, now=now), **dict(headers)}
    content = body if sent is None else sent
    return site.http.request(method, site.url + path, content=content, headers=fields)


def test_a_whole_deal_over_http(site, tmp_path):
    listing = make_listing(site.ada.fingerprint)
    deal = site.sells.post("/v1/deals", sign_listing(listing, site.seller))["id"]
    for artefact in ("trial", "key", "preimage"):
        state = put(site, deal, artefact, tmp_path)
    assert state["stage"] == "stocked"
    (offer,) = site.buys.get("/v1/offers", sign=False)
    assert (offer["id"], offer["listing"]["title"]) == (deal, listing.title)
    assert site.buys.get(f"/v1/offers/{deal}")["document"]["signer"]["name"] == "Ada"
    refused(422, site.buys.post, f"/v1/deals/{deal}/deposit", {})
    refused(422, site.buys.post, f"/v1/deals/{deal}/deposit", {"consent": False})
    assert site.buys.post(f"/v1/deals/{deal}/deposit", {"consent": True})["escrow"] == 800
    site.buys.download(f"/v1/deals/{deal}/goods/trial", tmp_path / "got", sha256=listing.trial)
    assert (tmp_path / "got").read_bytes() == TRIAL
    report = {"document": site.report(deal, "trial", 980, 1000)}
    assert site.buys.post(f"/v1/deals/{deal}/report", report)["report"]["right"]["trials"] == 1000
    key = f"/v1/deals/{deal}/goods/key"
    assert refused(403, site.buys.download, key, tmp_path / "no", sha256=listing.key)
    assert not (tmp_path / "no").exists()
    paid = site.buys.post(f"/v1/deals/{deal}/pay")
    assert sha256(bytes.fromhex(paid["preimage"])) == listing.lock
    assert "preimage" not in site.sells.get(f"/v1/deals/{deal}")
    site.buys.download(key, tmp_path / "key", sha256=listing.key)
    assert (tmp_path / "key").read_bytes() == KEY
    done = site.buys.post(f"/v1/deals/{deal}/accept", {})
    assert (done["stage"], done["net"]) == ("settled", -5000)
    assert site.sells.get("/v1/account")["cents"] == 15_000
    assert site.sells.get("/v1/deals")[0]["net"] == 5000
    site.desk.verify()


def test_a_file_that_is_not_the_listed_one_is_not_kept(site, tmp_path):
    deal = site.trying()
    path = f"/v1/deals/{deal}/goods/trial"
    with pytest.raises(IntegrityError, match="another file"):
        site.buys.download(path, tmp_path / "got", sha256="0" * 64)
    assert not (tmp_path / "got").exists()


def test_accounts_are_opened_by_their_own_key_only(site, eve):
    client = DeskClient(site.url, eve, http=site.http, clock=lambda: NOW)
    assert refused(401, client.get, "/v1/account").code == "Unauthenticated"
    forged = {**eve.public.to_dict(), "name": "Ada"}
    refused(422, client.post, "/v1/accounts", forged)
    refused(401, client.post, "/v1/accounts", site.ada.public.to_dict())
    assert client.register()["cents"] == 0
    assert client.register()["name"] == "Eve"


@pytest.mark.parametrize(
    "changes",
    [
        {"now": NOW - 301},
        {"now": NOW + 301},
        {"desk": "0" * 64},
        {"signed_path": "/v1/deals"},
        {"sent": b'{"consent":true} '},
        {"headers": [("Doorward-Key", "0" * 64)]},
        {"headers": [("Doorward-Key", "../../etc/passwd")]},
        {"headers": [("Doorward-Nonce", "0" * 32)]},
        {"headers": [("Doorward-Time", "now")]},
        {"headers": [("Doorward-Time", "9" * 40)]},
        {"headers": [("Doorward-Signature", "0" * 128)]},
        {"headers": [("Doorward-Signature", "")]},
        {"headers": [("Doorward-Digest", hashlib.sha256(b"{}").hexdigest())]},
    ],
)
def test_forged_requests_are_refused(lasting, changes):
    deal = lasting.offer(next(lasting.serials))
    lasting.stock(deal)
    path = f"/v1/deals/{deal}/deposit"
    body = b'{"consent":true}'
    assert raw(lasting, "POST", path, who=lasting.buyer, body=body, **changes).status_code == 401
    assert lasting.desk.store.state(deal).buyer is None


def test_no_signature_at_all(lasting):
    for method, path in [("GET", "/v1/account"), ("POST", "/v1/deals"), ("GET", "/v1/log")]:
        assert lasting.http.request(method, lasting.url + path).status_code == 401


def test_a_replayed_request_is_refused(site):
    deal = site.offer()
    site.stock(deal)
    path, body = f"/v1/deals/{deal}/deposit", b'{"consent":true}'
    headers = sign_request(site.buyer, site.desk.fingerprint, "POST", path, body, now=NOW)
    send = {"content": body, "headers": headers}
    assert site.http.post(site.url + path, **send).status_code == 200
    site.desk.deals.withdraw(site.bob, deal)  # now the deposit would be possible again
    answer = site.http.post(site.url + path, **send)
    assert (answer.status_code, answer.json()["error"]["what"]) == (
        401, "this request was sent before",
    )  # fmt: skip
    assert site.desk.store.state(deal).buyer is None


def test_wrong_roles(site, tmp_path, eve):
    site.desk.register(eve.public)
    stranger = DeskClient(site.url, eve, http=site.http, clock=lambda: NOW)
    deal = site.offer()
    assert put_status(site, deal, "trial", tmp_path, site.buys) == 403
    site.stock(deal)
    refused(403, site.sells.post, f"/v1/deals/{deal}/deposit", {"consent": True})
    site.desk.deals.deposit(site.bob, deal)
    for client in (stranger, site.sells):
        refused(403, client.download, f"/v1/deals/{deal}/goods/trial", tmp_path / "x", sha256="0")
        for action in ("pay", "accept"):
            refused(403 if action == "pay" else 409, client.post, f"/v1/deals/{deal}/{action}", {})
    refused(403, stranger.post, f"/v1/deals/{deal}/withdraw")
    shown = stranger.get(f"/v1/deals/{deal}")
    assert set(shown) == {"id", "stage", "due", "listing"}
    assert refused(404, stranger.get, f"/v1/deals/{'0' * 64}")


def put_status(site, deal, artefact, tmp_path, client, content=None):
    with pytest.raises(DeskRefused) as caught:
        put(site, deal, artefact, tmp_path, content, client)
    return caught.value.status


def test_oversize_bodies_are_refused(site, tmp_path):
    deal = site.offer()
    assert put_status(site, deal, "key", tmp_path, site.sells, b"x" * 1001) == 413
    # A body without a length is stopped on its way, not after it.
    path = f"/v1/deals/{deal}/goods/key"
    body = b"x" * 50_000
    headers = sign_request(site.seller, site.desk.fingerprint, "PUT", path, body, now=NOW)
    chunks = (body[i : i + 100] for i in range(0, len(body), 100))
    with suppress(httpx.HTTPError):  # the desk may hang up while we are still sending
        assert site.http.put(site.url + path, content=chunks, headers=headers).status_code == 413
    assert site.desk.store.state(deal).stocked == ()
    big = json.dumps({"text": "x" * 20_001}).encode()
    assert raw(site, "POST", "/v1/deals", who=site.seller, body=big).status_code == 413
    assert not list((site.desk.custody.folder / "incoming").iterdir())


@pytest.mark.parametrize(
    "path",
    [
        "/v1/deals/../../etc/passwd",
        "/v1/deals/..%2f..%2fetc%2fpasswd",
        "/v1/deals/%2e%2e/goods/trial",
        f"/v1/deals/{'0' * 64}/goods/..%2f..%2fdesk.sqlite",
        f"/v1/deals/{'0' * 64}/goods/preimage",
        f"/v1/deals/{'0' * 63}g/goods/trial",
        "/enter/..%2f..%2fetc",
        "/deals/..%2f..%2fetc%2fpasswd",
        "/static/../../../etc/passwd",
    ],
)
def test_paths_lead_nowhere_else(lasting, path):
    """Sent as they are, past what a client library would tidy up."""
    parts = urlsplit(lasting.url)
    headers = sign_request(lasting.buyer, lasting.desk.fingerprint, "GET", path, b"", now=NOW)
    lines = [f"GET {path} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert int(answer.split(b" ", 2)[1]) in (401, 404, 405, 422)
    assert b"root:" not in answer


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"\xff\xfe", b'{"a":1,"a":2}', b'{"a":NaN}', b"[" * 5000, b'{"format":1}'],
)
def test_bodies_that_are_no_listing(lasting, body):
    assert raw(lasting, "POST", "/v1/deals", who=lasting.seller, body=body).status_code == 422


def test_rates_are_limited_per_sender(tmp_path, ada, bob, desk_identity):
    scene = make_scene(
        tmp_path / "d.sqlite", tmp_path, desk_identity, ada, bob, requests_per_minute=5
    )
    scene.fund()
    with serving(create_app(scene.desk, sweep_seconds=None)) as url:
        client = DeskClient(url, bob, clock=lambda: NOW)
        for _ in range(5):
            client.get("/v1/account")
        assert refused(429, client.get, "/v1/account").code == "TooMany"
        assert DeskClient(url, ada, clock=lambda: NOW).get("/v1/account")["name"] == "Ada"
        answers = [httpx.get(url + "/v1/offers") for _ in range(6)]
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) >= 1


def test_buckets_refill_and_forget():
    now = [0.0]
    limiter = RateLimiter(60, clock=lambda: now[0])
    for _ in range(60):
        limiter.take("bob")
    with pytest.raises(TooMany):
        limiter.take("bob")
    now[0] = 1.5
    limiter.take("bob")
    with pytest.raises(TooMany) as caught:
        limiter.take("bob")
    assert caught.value.wait == 1


def webhook(site, event, *, secret=b"webhook secret 1", time=NOW):
    body = json.dumps(event).encode()
    message = str(time).encode() + b"." + body
    signature = hmac.new(secret, message, hashlib.sha256).hexdigest()
    headers = {"Webhook-Time": str(time), "Webhook-Signature": signature}
    return site.http.post(site.url + "/v1/hooks/acme", content=body, headers=headers)


def test_a_provider_pays_in_once_per_payment(site):
    event = {"type": "payment.succeeded", "id": "pay_1", "amount": 700,
             "reference": site.bob.fingerprint}  # fmt: skip
    assert webhook(site, event).json() == {"new": True}
    assert webhook(site, event).json() == {"new": False}
    assert site.desk.account(site.bob.fingerprint)["cents"] == 10_700
    assert webhook(site, {**event, "amount": 900}).status_code == 422
    assert webhook(site, event, secret=b"another secret !").status_code == 401
    assert webhook(site, event, time=NOW - 301).status_code == 401
    assert webhook(site, {"type": "payment.failed"}).json() == {"new": False}
    assert webhook(site, {"type": "payment.succeeded"}).status_code == 422
    assert site.http.post(site.url + "/v1/hooks/prepaid", content=b"{}").status_code == 422
    site.desk.verify()


def test_the_log_can_be_checked_by_a_party(site):
    from doorward.serving.desk.audit import verify_chain

    site.trying()
    lines = site.buys.get("/v1/log?first=0&limit=100")
    fresh = DeskClient(site.url, site.buyer, http=site.http, clock=lambda: NOW)
    assert fresh.head == {"lines": len(lines), "sha256": verify_chain(lines)}


def test_clients_notice_another_desk_or_none(lasting, bob):
    with pytest.raises(IntegrityError, match="another desk"):
        DeskClient(lasting.url, bob, desk="0" * 64, http=lasting.http)
    with pytest.raises(EndpointFailed, match="does not answer"):
        DeskClient("http://127.0.0.1:9", bob)
    with pytest.raises(EndpointFailed):
        DeskClient("not a url", bob)


def browse(url, folder, *flags):
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--hide-scrollbars", "--virtual-time-budget=2000",
        "--blink-settings=preferredColorScheme=1", f"--user-data-dir={folder / 'profile'}",
    ]  # fmt: skip
    return subprocess.run(
        [*command, *flags, url], check=True, capture_output=True, timeout=120
    ).stdout


class TestPages:
    def enter(self, site):
        return site.http.get(site.url + site.buys.post("/v1/visits")["path"])

    def test_offers_and_cards_are_public(self, site):
        hostile = "<script>alert(1)</script>"
        deep = [1]
        for _ in range(50):
            deep = [deep]
        deal = site.offer(card={"architecture": hostile, "layers": [1, {"a": None}], "deep": deep})
        site.stock(deal)
        page = site.http.get(site.url)
        assert page.status_code == 200
        assert f'href="/deals/{deal}"' in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        one = site.http.get(f"{site.url}/deals/{deal}")
        assert "97.0%" in one.text
        assert "50.00 EUR" in one.text
        assert hostile not in one.text
        assert "&lt;script&gt;" in one.text
        assert "What happened" not in one.text
        assert site.http.get(f"{site.url}/deals/{'0' * 64}").status_code == 404

    def test_a_link_opens_my_deals_once(self, site):
        deal = site.trying()
        report = site.report(deal, "trial", 980, 1000)
        site.desk.deals.report(site.bob, deal, report)
        assert site.http.get(site.url + "/mine").status_code == 401
        path = site.buys.post("/v1/visits")["path"]
        answer = site.http.get(site.url + path)
        assert answer.status_code == 303
        assert "HttpOnly" in answer.headers["set-cookie"]
        assert site.http.get(site.url + path).status_code == 401  # once
        mine = site.http.get(site.url + "/mine")
        assert mine.status_code == 200
        assert "95.00 EUR" in mine.text
        one = site.http.get(f"{site.url}/deals/{deal}").text
        assert "What happened" in one
        assert "980 of 1000" in one
        assert "<svg" in one
        assert not re.findall(r"<script|https?://(?!www\.w3\.org|purl|creativecommons)", one)
        site.clock[0] = NOW + 3601
        assert site.http.get(site.url + "/mine").status_code == 401

    def test_links_grow_old(self, site):
        path = site.buys.post("/v1/visits")["path"]
        site.clock[0] = NOW + 301
        assert site.http.get(site.url + path).status_code == 401

    @pytest.mark.slow
    @pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium on this machine")
    def test_a_browser_shows_them(self, site, tmp_path):
        deal = site.trying()
        site.desk.deals.report(site.bob, deal, site.report(deal, "trial", 980, 1000))
        link = site.url + site.buys.post("/v1/visits")["path"]
        assert "You are Bob" in browse(link, tmp_path, "--dump-dom").decode()
        page = f"{site.url}/deals/{deal}"  # the cookie is kept in the browser's profile
        assert "What happened" in browse(page, tmp_path, "--dump-dom").decode()
        shot = tmp_path / "phone.png"
        browse(page, tmp_path, f"--screenshot={shot}", "--window-size=500,900")
        picture = Image.open(shot).convert("RGB")
        assert min(picture.getpixel((498, 450))) > 240, "the right margin of a phone stays free"

    @pytest.mark.parametrize("ends", ["refunded", "settled"])
    def test_rulings_are_shown(self, site, ends):
        deal = site.trying()
        site.desk.deals.pay(site.bob, deal)
        site.desk.deals.dispute(site.bob, deal, site.report(deal, "unlocked", 90, 500))
        site.leave(deal, "opening")
        if ends == "settled":
            site.desk.sweep()
        else:
            from doorward.trading.protocol import Counts, Measurement

            lost = Measurement(
                right=Counts(successes=99, trials=100), attack=Counts(successes=90, trials=500)
            )
            site.desk.rulings.rule(deal, measured=lost)
        self.enter(site)
        page = site.http.get(f"{site.url}/deals/{deal}").text
        assert "Did the seller keep the promise?" in page
        assert ("not kept" in page) == (ends == "refunded")


def test_a_large_trial_streams_through(site, tmp_path):
    content = bytes(range(256)) * 2**13  # 2 MiB
    listing = make_listing(site.ada.fingerprint, trial=sha256(content), trial_bytes=len(content))
    deal = site.sells.post("/v1/deals", sign_listing(listing, site.seller))["id"]
    assert put(site, deal, "trial", tmp_path, content)["stocked"] == ["trial"]


def test_a_body_that_breaks_off_changes_nothing(site):
    deal = site.offer()
    path, parts = f"/v1/deals/{deal}/goods/key", urlsplit(site.url)
    headers = sign_request(site.seller, site.desk.fingerprint, "PUT", path, KEY, now=NOW)
    lines = [f"PUT {path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(KEY)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + KEY[:5])
    assert site.http.put(site.url + path, content=KEY, headers=headers).status_code == 200
    assert site.desk.store.state(deal).stocked == ("key",)
