"""Axe finds nothing in a report, in light and in dark, on a wide page and on a narrow one.

axe-core comes from npm and the page is opened in Chromium; without either of them these tests are skipped.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parents[1] / "golden"
PAGES = sorted(GOLDEN.rglob("*.html"))
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
RUN = """
axe.run(document, {resultTypes: ["violations"]}).then(found => {
  const left = found.violations.map(one => [one.id, one.impact, one.nodes.slice(0, 3).map(node => node.html)]);
  document.body.innerHTML = "";
  const told = document.createElement("pre");
  told.id = "found";
  told.textContent = JSON.stringify({left, n_passed: found.passes.length});
  document.body.append(told);
});
"""


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    if BROWSER is None or shutil.which("npm") is None:
        pytest.skip("needs Chromium and npm")
    folder = tmp_path_factory.mktemp("axe")
    packed = subprocess.run(["npm", "pack", "axe-core@4"], cwd=folder, capture_output=True, text=True)
    if packed.returncode:
        pytest.skip(f"npm cannot fetch axe-core: {packed.stderr[-200:]}")
    subprocess.run(["tar", "xf", packed.stdout.split()[-1]], cwd=folder, check=True)
    return (folder / "package/axe.min.js").read_text(encoding="utf-8")


def violations(html: str, axe: str, folder: Path, *options: str) -> list[list[Any]]:
    """What axe finds in a page: rule, impact and the first places."""
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    opened = folder / "page.html"
    opened.write_text(bare.replace("</body>", f"<script>{axe}</script><script>{RUN}</script></body>"), encoding="utf-8")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=30000", *options]
    done = subprocess.run([*command, "--dump-dom", opened.as_uri()], capture_output=True, text=True, timeout=300)
    told = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert told, done.stderr[-500:]
    found = json.loads(told[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert found["n_passed"] > 10
    return list(found["left"])


@pytest.mark.slow
@pytest.mark.parametrize("scheme", [(), ("--blink-settings=preferredColorScheme=0",)], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 600])
@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(GOLDEN)))
def test_axe_finds_nothing(page: Path, width: int, scheme: tuple[str, ...], axe: str, tmp_path: Path) -> None:
    html = page.read_text(encoding="utf-8")
    assert violations(html, axe, tmp_path, f"--window-size={width},2000", *scheme) == []


@pytest.mark.slow
def test_axe_finds_what_is_wrong(axe: str, tmp_path: Path) -> None:
    html = (
        PAGES[0].read_text(encoding="utf-8").replace("</main>", '<p style="color: #ddd">pale</p><img src="x"></main>')
    )
    assert {one[0] for one in violations(html, axe, tmp_path)} >= {"color-contrast", "image-alt"}
