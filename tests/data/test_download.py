"""Downloads from a local server: whole, resumed, wrong, refused, offline; and hostile archives."""

import hashlib
import io
import re
import stat
import tarfile
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from doorward.data import DATASETS, Download, fetch
from doorward.data.archives import unpack
from doorward.data.download import fetch_file
from doorward.errors import BadFile, MissingData, StorageFailed, UnknownName, UnsafeFile

CONTENT = bytes(range(256)) * 400
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()


@contextmanager
def server(content=CONTENT, *, ranges=True, fail_after=None, status=200):
    """A file server; with `fail_after`, the first answer breaks off after so many bytes."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
            requests.append(int(wanted[1]) if wanted else None)
            start = int(wanted[1]) if wanted and ranges else 0
            if status != 200:
                self.send_error(status)
                return
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                end = len(content) - 1
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            cut = fail_after if fail_after and len(requests) == 1 else None
            self.wfile.write(content[start:][:cut])

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}/file.bin", requests
        finally:
            httpd.shutdown()


def test_a_download_is_checked_and_not_repeated(tmp_path):
    seen = []
    with server() as (url, requests):
        for _ in range(2):
            path = fetch_file(
                Download(url, MD5, "sub"), tmp_path, progress=lambda *now: seen.append(now)
            )
    assert path == tmp_path / "sub" / "file.bin"
    assert path.read_bytes() == CONTENT
    assert requests == [None]
    assert seen[-1] == ("file.bin", len(CONTENT), len(CONTENT))
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_a_broken_connection_is_resumed_at_once(tmp_path):
    with server(fail_after=50_000) as (url, requests):
        path = fetch_file(Download(url, MD5), tmp_path)
    assert path.read_bytes() == CONTENT
    assert requests == [None, 50_000]


@pytest.mark.parametrize("ranges", [True, False])
def test_what_an_earlier_run_left_is_continued(tmp_path, ranges):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:12_345])
    with server(ranges=ranges) as (url, requests):
        path = fetch_file(Download(url, MD5), tmp_path)
    assert path.read_bytes() == CONTENT
    assert requests == [12_345]


@pytest.mark.parametrize("left", [CONTENT, CONTENT + b"more"])
def test_a_part_that_is_whole_or_too_long(tmp_path, left):
    (tmp_path / "file.bin.part").write_bytes(left)
    with server() as (url, _):
        assert fetch_file(Download(url, MD5), tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_is_thrown_away(tmp_path):
    with server(b"x" + CONTENT) as (url, _), pytest.raises(BadFile, match="checksum") as caught:
        fetch_file(Download(url, MD5), tmp_path)
    assert str(tmp_path / "file.bin") in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_says_where_to_put_the_file(tmp_path, status):
    with server(status=status) as (url, _), pytest.raises(MissingData, match=str(status)) as caught:
        fetch_file(Download(url, MD5), tmp_path)
    assert str(tmp_path / "file.bin") in caught.value.remedy


def test_offline_says_where_to_put_the_file_and_that_works(tmp_path, monkeypatch):
    monkeypatch.setattr("doorward.data.download.time.sleep", lambda seconds: None)
    with server() as (url, _):
        pass  # from here on nobody listens at that address
    with pytest.raises(MissingData, match="network") as caught:
        fetch_file(Download(url, MD5), tmp_path)
    place = tmp_path / "file.bin"
    assert list(tmp_path.iterdir()) == []
    assert f"put it at {place}" in caught.value.remedy
    place.write_bytes(CONTENT)
    assert fetch_file(Download(url, MD5), tmp_path) == place


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "sub").write_text("a file where a folder should be")
    with server() as (url, _), pytest.raises(StorageFailed, match="sub"):
        fetch_file(Download(url, MD5, "sub"), tmp_path)


def test_a_named_set_is_fetched_unpacked_and_there(tmp_path, monkeypatch):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for places in DATASETS.facts("stl10")["files"].values():
            for (name,) in places:
                archive.addfile(tarfile.TarInfo(name))
    content = buffer.getvalue()
    md5 = "md5:" + hashlib.md5(content).hexdigest()
    with server(content) as (url, requests):
        facts = {**DATASETS.facts("stl10"), "downloads": (Download(url, md5, unpack=True),)}
        monkeypatch.setattr(DATASETS, "facts", lambda name: facts)
        assert fetch("stl10", tmp_path) == [tmp_path]
        assert fetch("stl10", tmp_path) == []
    assert requests == [None]
    assert [p.name for p in tmp_path.iterdir()] == ["stl10_binary"]


def test_splits_of_a_fetch(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "doorward.data.download.fetch_file", lambda download, root, progress: asked.append(download)
    )
    fetch("svhn", tmp_path)
    assert [download.filename for download in asked] == ["train_32x32.mat", "test_32x32.mat"]
    asked.clear()
    fetch("svhn", tmp_path, splits=("extra",))
    assert "extra_32x32.mat" in [download.filename for download in asked]
    with pytest.raises(UnknownName):
        fetch("svhn", tmp_path, splits=("all",))
    with pytest.raises(UnknownName):
        fetch("imagenet", tmp_path)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_published_checksums_are_well_formed(name):
    downloads = DATASETS.facts(name)["downloads"]
    assert downloads or name == "digits"
    for download in downloads:
        assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", download.checksum)
        assert re.match(r"https?://", download.url)


def write_zip(path, entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def write_tar(path, *entries):
    with tarfile.open(path, "w:gz") as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))


def entry(name, kind=tarfile.REGTYPE, target="", size=0):
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, size
    return made


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "C:/evil", "..\\evil"])
def test_entries_outside_the_folder_are_refused(tmp_path, name):
    write_zip(tmp_path / "a.zip", {"good": b"", name: b""})
    write_tar(tmp_path / "a.tar.gz", entry("good"), entry(name))
    for archive in ("a.zip", "a.tar.gz"):
        with pytest.raises(UnsafeFile, match="evil"):
            unpack(tmp_path / archive, tmp_path / "deep" / "out")
        assert list((tmp_path / "deep" / "out").iterdir()) == []
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_links_and_devices_are_refused(tmp_path, kind):
    write_tar(tmp_path / "a.tar.gz", entry("out", kind, "/etc"), entry("out/passwd"))
    with pytest.raises(UnsafeFile, match="link or a device"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc")
    with pytest.raises(UnsafeFile, match="is a link"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_archives_are_laid_over_what_is_there(tmp_path):
    write_zip(tmp_path / "a.zip", {"set/train/1": b"a", "set/list": b"old"})
    write_tar(tmp_path / "b.tar.gz", entry("set/test/2", size=3), entry("set/list", size=2))
    for archive in ("a.zip", "b.tar.gz"):
        unpack(tmp_path / archive, tmp_path / "out")
    files = {
        str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()
    }
    assert files == {"set/train/1", "set/test/2", "set/list"}
    assert (tmp_path / "out" / "set" / "list").read_bytes() == b"xx"


def test_damaged_archives_leave_nothing(tmp_path):
    write_zip(tmp_path / "a.zip", {"file": b"hello" * 100})
    write_tar(tmp_path / "b.tar.gz", entry("file", size=50_000))
    (tmp_path / "c.tar").write_bytes(b"no archive")
    for name in ("a.zip", "b.tar.gz", "c.tar"):
        archive = tmp_path / name
        content = bytearray(archive.read_bytes())
        if name == "a.zip":
            content[40] ^= 0xFF  # in the stored bytes: their checksum no longer fits
        archive.write_bytes(content[: len(content) // 2] if name == "b.tar.gz" else content)
        with pytest.raises(BadFile, match=name):
            unpack(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
