"""Layers are the largest thing that a registry keeps: what no image needs any more must go, and what a push needs must stay."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_mlcc.localaws.services.ecr import blobs as blobs_module
from pytest_mlcc.localaws.services.ecr import model
from pytest_mlcc.localaws.services.ecr.blobs import Blobs, digest_of
from pytest_mlcc.localaws.services.ecr.model import Registry
from pytest_mlcc.localaws.store import Store

REGION, NAME = "us-west-2", "app"
HOUR = 3600.0


def _registry(directory: Path, store: Store | None = None) -> Registry:
    registry = Registry(store or Store(lambda: None), Blobs(directory), account="123456789012")
    if store is None:
        registry.create_repository(REGION, NAME, {})
    return registry


def _layer(registry: Registry, content: bytes) -> str:
    upload = registry.blobs.begin(f"{REGION}/{NAME}")
    with registry.blobs.opened(upload) as file:
        file.write(content)
    assert registry.blobs.finish(upload, digest_of(content))
    registry.link_layer(REGION, NAME, digest_of(content))
    return digest_of(content)


def _image(registry: Registry, *layers: bytes) -> str:
    parts = [{"digest": _layer(registry, content), "size": len(content)} for content in (b"{}", *layers)]
    manifest = json.dumps({"schemaVersion": 2, "config": parts[0], "layers": parts[1:]})
    return str(registry.put_image(REGION, NAME, manifest, media_type="", tag=None)["digest"])


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_layers_of_an_image_that_was_deleted_soon_after_its_push_go_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another push may be about to name them; when its time is over they go, though nothing else is deleted then."""
    monkeypatch.setattr(model, "_PUSH_SECONDS", 0.3)
    registry = _registry(tmp_path)
    registry.delete_image(REGION, NAME, digest=_image(registry, b"one", b"two"), tag=None)
    assert len(registry.blobs.digests()) == 3
    _until(lambda: registry.blobs.digests() == [])
    assert registry.layer(REGION, NAME, digest_of(b"one")) is None


def test_layers_that_are_asked_for_again_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "_PUSH_SECONDS", 0.5)
    registry = _registry(tmp_path)
    registry.delete_image(REGION, NAME, digest=_image(registry, b"one", b"two"), tag=None)

    def only_one_is_left() -> bool:
        assert registry.layer(REGION, NAME, digest_of(b"one")), "a push that asks for a layer finds it when it names it"
        return registry.blobs.digests() == [digest_of(b"one")]

    _until(only_one_is_left)


def test_what_a_killed_server_has_left_is_tidied_and_a_push_goes_on(tmp_path: Path) -> None:
    store = Store(lambda: None)
    before = _registry(tmp_path, store)
    before.create_repository(REGION, NAME, {})
    digest = _image(before, b"kept")
    fresh, old, lost = (_layer(before, content) for content in (b"fresh", b"old", b"lost"))
    before.blobs.path(lost).unlink()
    os.utime(before.blobs.path(old), (time.time() - HOUR, time.time() - HOUR))
    before.blobs.path(digest_of(b"unnamed")).write_bytes(b"unnamed")  # killed between the blob and its record
    before.blobs.begin(f"{REGION}/{NAME}")
    after = _registry(tmp_path, store)
    after.tidy()
    assert sorted(after.blobs.digests()) == sorted([fresh, digest_of(b"kept"), digest_of(b"{}")])
    assert [after.layer(REGION, NAME, each) is not None for each in (fresh, old, lost)] == [True, False, False]
    assert after.image(REGION, NAME, digest=digest)
    assert list((tmp_path / "uploads").iterdir()) == []


def test_uploads_that_nobody_goes_on_with_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = Blobs(tmp_path)
    given_up, going_on = blobs.begin("us-west-2/app"), blobs.begin("us-west-2/app")
    os.utime(tmp_path / "uploads" / given_up, (time.time() - HOUR, time.time() - HOUR))
    monkeypatch.setattr(blobs_module, "_UPLOAD_SECONDS", HOUR / 2)
    blobs.begin("us-west-2/other")
    assert [blobs.size(upload, "us-west-2/app") for upload in (given_up, going_on)] == [None, 0]
    assert not (tmp_path / "uploads" / given_up).exists()


def test_many_push_at_the_same_time(tmp_path: Path) -> None:
    """An upload begins while others end in their threads: the registry of a push had answered 500."""
    blobs, owner = Blobs(tmp_path), "us-west-2/app"
    open_ones = [blobs.begin(owner) for _ in range(100)]  # a look through all of them takes a while

    def push() -> list[bool]:
        return [blobs.finish(blobs.begin(owner), digest_of(b"")) for _ in range(100)]

    with ThreadPoolExecutor(4) as pool:
        pushes = [pool.submit(push) for _ in range(4)]
    assert all(all(done.result()) for done in pushes)
    assert [blobs.size(upload, owner) for upload in open_ones] == [0] * 100


def test_a_repositorys_uploads_go_with_it(tmp_path: Path) -> None:
    registry = _registry(tmp_path)
    registry.blobs.begin(f"{REGION}/{NAME}")
    other = registry.blobs.begin(f"{REGION}/other")
    registry.delete_repository(REGION, NAME, force=True)
    assert [path.name for path in (tmp_path / "uploads").iterdir()] == [other]
