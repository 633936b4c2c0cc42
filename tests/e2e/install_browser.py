"""See that there is a browser for the stories: Debian's package as root, Playwright's own elsewhere.

Where none can be had the stories are skipped, and said so; with FER_REQUIRE_BROWSER=1 that is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys


def find_browser() -> str | None:
    """The path of a Chromium to drive: `FER_BROWSER`, one on the PATH, or Playwright's own; None where there is none."""
    for name in (
        os.environ.get("FER_BROWSER"),
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ):
        if name and (path := shutil.which(name)):
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if os.path.exists(path) else None


def install() -> None:
    """Try to install one; whether it worked, `find_browser` tells."""
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], env=environment, check=False)
    else:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)


if __name__ == "__main__":
    if not find_browser():
        install()
    found = find_browser()
    print(
        f"browser: {found or 'none; the browser stories will be skipped. Set FER_BROWSER to the path of a Chromium.'}"
    )
    sys.exit(1 if not found and os.environ.get("FER_REQUIRE_BROWSER") else 0)
