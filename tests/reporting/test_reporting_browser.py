"""The page in a real browser: nothing fetched, nothing overflowing, both themes drawn."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

import doorward.reporting as dr

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


def shoot(page: Path, folder: Path, *, dark: bool, width: int) -> Image.Image:
    """Draw the page at a width, in a theme."""
    shot = folder / f"{'dark' if dark else 'light'}-{width}.png"
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --hide-scrollbars"
    )
    command = [
        str(BROWSER),
        *flags.split(),
        f"--user-data-dir={folder / 'profile'}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        f"--window-size={width},900",
        f"--screenshot={shot}",
        page.as_uri(),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return Image.open(shot).convert("RGB")


def test_light_dark_and_phone(tmp_path) -> None:
    page = (
        dr.Report("A report", "with a subtitle")
        .section("One", dr.Verdict("Is it?", True), dr.Curve({"a": ([1, 2], [1.0, 2.0])}))
        .write(tmp_path / "index.html")
    )
    light = shoot(page, tmp_path, dark=False, width=1000)
    dark = shoot(page, tmp_path, dark=True, width=1000)
    phone = shoot(page, tmp_path, dark=False, width=500)
    assert min(light.getpixel((2, 2))) > 240
    assert max(dark.getpixel((2, 2))) < 40
    assert min(phone.getpixel((498, 450))) > 240, "the right margin of a narrow page stays free"
