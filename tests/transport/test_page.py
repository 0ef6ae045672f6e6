"""The page and the SDK, as the server gives them to any browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, strategies as st

from saccade.server.starting import Starting
from saccade.server.transport.page import FOLDER, MEDIA_TYPES, Page, read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "web"
    (root / "page").mkdir(parents=True)
    (root / "node_modules" / "other").mkdir(parents=True)
    (root / "test").mkdir()
    (root / "page" / "index.html").write_text("<!doctype html>")
    (root / "saccade.js").write_text("export {}")
    (root / "package.json").write_text("{}")
    (root / ".secret.js").write_text("no")
    (root / "node_modules" / "other" / "index.js").write_text("no")
    (root / "test" / "all.test.js").write_text("no")
    (tmp_path / "outside.js").write_text("no")
    return root


def test_the_page_needs_no_key_and_is_bound_to_its_own_server(server: Any) -> None:
    answer = httpx.get(server.base + "/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy, "no other origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_page_is_there_on_a_server_with_keys(serve: Any) -> None:
    guarded = serve(keys=("ann:" + "0" * 64,))
    assert httpx.get(guarded.base + "/").status_code == 200
    assert httpx.get(guarded.base + "/web/page/index.html").status_code == 200
    assert httpx.get(guarded.base + "/v1/models").status_code == 401


async def test_the_page_is_there_while_models_load(folder: Path) -> None:
    transport = httpx.ASGITransport(Page(Starting(), folder))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        assert (await client.get("/")).text == "<!doctype html>"
        assert (await client.get("/v1/models")).status_code == 503


async def test_only_the_page_and_the_sdk_are_served(folder: Path) -> None:
    transport = httpx.ASGITransport(Page(Starting(), folder))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        script = await client.get("/web/saccade.js")
        assert script.headers["content-type"] == "text/javascript; charset=utf-8"
        for path in (
            "package.json", ".secret.js", "node_modules/other/index.js",
            "test/all.test.js", "../outside.js", "%2e%2e/outside.js", "none.js", "",
            "page", "page/", "saccade.js/", "//saccade.js", "page/index.html%00.js",
        ):  # fmt: skip
            answer = await client.get("/web/" + path)
            assert answer.status_code in {404, 503}, path  # 503: no path of the page's
            assert answer.text not in {"no", "{}"}
        assert (await client.post("/")).status_code == 405
        assert (await client.head("/")).content == b""


async def test_a_file_that_has_not_changed_is_not_sent_again(folder: Path) -> None:
    transport = httpx.ASGITransport(Page(Starting(), folder))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        tag = (await client.get("/")).headers["etag"]
        again = await client.get("/", headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
        (folder / "page" / "index.html").write_text("<!doctype html>new")
        again = await client.get("/", headers={"If-None-Match": tag})
        assert again.text == "<!doctype html>new"


@given(st.text())
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    content = read(FOLDER, name)
    assert content is None or name.rpartition(".")[2] in {"js", "html", "css", "svg"}


def test_the_page_and_the_sdk_are_small() -> None:
    files = [
        path
        for path in FOLDER.rglob("*")
        if read(FOLDER, path.relative_to(FOLDER).as_posix()) is not None
    ]
    assert {path.suffix for path in files} <= {*MEDIA_TYPES}
    assert sum(path.stat().st_size for path in files) < 200_000
