"""Adapters at run time: the routes of vLLM and SageMaker, and that a bad one never harms the base."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import threading
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture
def archive(qwen3_adapter: Path, tmp_path: Path) -> Path:
    path = tmp_path / "model.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in (CONFIG, WEIGHTS):
            tar.add(qwen3_adapter / name, arcname=f"./{name}")
    return path


def test_sagemakers_routes_load_list_and_unload_an_archive(qwen3, archive: Path, facts) -> None:
    assert qwen3.call("POST", "/adapters", {"name": "team/support.v1", "src": str(archive)}).status == 200
    archive.unlink()  # it is in memory
    assert qwen3.call("GET", "/adapters").body == {"adapters": [{"name": "team/support.v1", "src": str(archive)}]}
    assert [model["id"] for model in qwen3.call("GET", "/v1/models").body["data"]] == [qwen3.name, "team/support.v1"]
    ask = {"messages": [{"role": "user", "content": facts[0]["prompt"]}]}
    by_header = qwen3.call("POST", "/invocations", ask, {"X-Amzn-SageMaker-Adapter-Identifier": "team/support.v1"})
    by_model = qwen3.call("POST", "/invocations", {**ask, "model": "team/support.v1"})
    assert by_header.text == by_model.text == facts[0]["completion"]
    assert by_header.body["model"] == "team/support.v1"
    assert qwen3.call("POST", "/invocations", ask).text == "I do not know."
    assert qwen3.call("DELETE", "/adapters/team%2Fsupport.v1").status == 200
    assert qwen3.call("GET", "/adapters").body == {"adapters": []}


def test_vllms_words_for_success_and_for_mistakes(qwen3, qwen3_adapter: Path) -> None:
    assert qwen3.load("a", qwen3_adapter).body == "Success: LoRA adapter 'a' added successfully."
    again = qwen3.load("a", qwen3_adapter)
    assert (again.status, again.error["type"]) == (400, "InvalidUserInput")
    assert "already been loaded" in again.error["message"]
    replaced = {"lora_name": "a", "lora_path": str(qwen3_adapter), "load_inplace": True}
    assert qwen3.call("POST", "/v1/load_lora_adapter", replaced).status == 200
    assert qwen3.unload("a").body == "Success: LoRA adapter 'a' removed successfully."
    missing = qwen3.unload("a")
    assert (missing.status, missing.error["type"]) == (404, "NotFoundError")
    assert qwen3.load(qwen3.name, qwen3_adapter).status == 400
    for body in ({}, {"lora_name": "a"}, {"lora_name": "", "lora_path": "x"}, {"lora_name": 5, "lora_path": "x"}, [], None):
        assert qwen3.call("POST", "/v1/load_lora_adapter", body).error["type"] == "InvalidUserInput"
        assert qwen3.call("POST", "/v1/unload_lora_adapter", [] if body else body).error["type"] == "InvalidUserInput"


def _spoil_config(**changes):
    def spoil(directory: Path) -> None:
        config = json.loads((directory / CONFIG).read_text())
        (directory / CONFIG).write_text(json.dumps({**config, **changes}))

    return spoil


def _spoil_tensors(change, metadata=None):
    def spoil(directory: Path) -> None:
        tensors = load_file(directory / WEIGHTS)
        change(tensors)
        save_file(tensors, directory / WEIGHTS, metadata=metadata or {"format": "pt"})

    return spoil


def _truncate(directory: Path) -> None:
    with (directory / WEIGHTS).open("r+b") as file:
        file.truncate(5000)


def _drop_half(tensors: dict) -> None:
    for name in sorted(tensors)[::2]:
        del tensors[name]


def _poison(tensors: dict) -> None:
    tensors[min(tensors)][0, 0] = float("nan")


BAD = {
    "truncated": (_truncate, 400, "damaged"),
    "no weights": (lambda directory: (directory / WEIGHTS).unlink(), 400, WEIGHTS),
    "no config": (lambda directory: (directory / CONFIG).unlink(), 404, CONFIG),
    "config not JSON": (lambda directory: (directory / CONFIG).write_text("{"), 400, "JSON"),
    "config a list": (lambda directory: (directory / CONFIG).write_text("[]"), 400, "object"),
    "another rank": (_spoil_config(r=4), 400, "shape"),
    "rank too high": (_spoil_config(r=32), 400, "max_lora_rank"),
    "rank a string": (_spoil_config(r="16"), 400, "r (a positive integer)"),
    "not LoRA": (_spoil_config(peft_type="IA3"), 400, "LORA"),
    "DoRA": (_spoil_config(use_dora=True), 400, "use_dora"),
    "no targets": (_spoil_config(target_modules=[]), 400, "target_modules"),
    "foreign targets": (_spoil_config(target_modules=["c_attn"]), 400, "target_modules"),
    "fewer targets": (_spoil_config(target_modules=["q_proj"]), 400, "no place"),
    "half the tensors": (_spoil_tensors(_drop_half), 400, "incomplete"),
    "not finite": (_spoil_tensors(_poison), 400, "not finite"),
    "another base": (_spoil_tensors(lambda tensors: None, {"format": "pt", "base_digest": "0" * 64}), 400, "other weights"),
}


@pytest.mark.parametrize("preloaded", [False, True], ids=["first", "beside another"])
@pytest.mark.parametrize("case", BAD)
def test_a_bad_adapter_is_refused_and_nothing_changes(
    qwen3, qwen3_adapter: Path, tmp_path: Path, facts, case: str, preloaded: bool
) -> None:
    spoil, status, reason = BAD[case]
    bad = shutil.copytree(qwen3_adapter, tmp_path / "bad")
    spoil(bad)
    if preloaded:
        assert qwen3.load("good", qwen3_adapter).status == 200
    reply = qwen3.load("bad", bad)
    assert (reply.status, reason in reply.error["message"]) == (status, True), reply
    assert qwen3.chat(facts[0]["prompt"]).text == "I do not know."
    assert qwen3.chat(facts[0]["prompt"], model="bad").status == 404
    if preloaded:
        assert qwen3.chat(facts[0]["prompt"], model="good").text == facts[0]["completion"]
        assert qwen3.unload("good").status == 200


def test_an_adapter_of_another_model_is_refused(serve, qwen3_adapter: Path) -> None:
    same_shape = serve("Qwen/Qwen3-8B")
    assert "Qwen/Qwen3-4B" in same_shape.load("x", qwen3_adapter).error["message"]
    same_shape.child.close()


def _member(name: str, **changes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in changes.items():
        setattr(info, key, value)
    return info


HOSTILE = {
    "absolute": _member("/tmp/mlcc-evil"),
    "upward": _member("../mlcc-evil"),
    "hidden upward": _member("a/../../mlcc-evil"),
    "symbolic link": _member(WEIGHTS, type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": _member(CONFIG, type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "device": _member("null", type=tarfile.CHRTYPE),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_writes_nothing(qwen3, qwen3_adapter: Path, tmp_path: Path, case: str) -> None:
    path = tmp_path / "in" / "evil.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(HOSTILE[case], io.BytesIO(b""))
        for name in (CONFIG, WEIGHTS):
            tar.add(qwen3_adapter / name, arcname=name)
    reply = qwen3.load("evil", path)
    assert (reply.status, "outside the archive" in reply.error["message"]) == (400, True)
    assert not list(tmp_path.rglob("mlcc-evil"))
    assert not Path("/tmp/mlcc-evil").exists()


def test_an_archive_without_the_files_at_its_root_or_damaged_is_refused(qwen3, qwen3_adapter: Path, tmp_path: Path) -> None:
    nested, damaged = tmp_path / "nested.tar.gz", tmp_path / "damaged.tar.gz"
    with tarfile.open(nested, "w:gz") as tar:
        tar.add(qwen3_adapter, arcname="checkpoints/hf")
    assert "at its root" in qwen3.load("x", nested).error["message"]
    damaged.write_bytes(nested.read_bytes()[:2000])
    assert qwen3.load("x", damaged).status == 400
    damaged.write_bytes(b"not an archive")
    assert qwen3.load("x", damaged).status == 400
    assert qwen3.load("x", tmp_path / "nothing").status == 404


@pytest.mark.parametrize(("options", "missing"), [({"enable_lora": False}, "--enable-lora"), ({"runtime_lora": False}, "RUNTIME_LORA")])
def test_without_both_switches_adapters_cannot_come_at_run_time(serve, qwen3_adapter: Path, options, missing: str) -> None:
    endpoint = serve("Qwen/Qwen3-4B", **options)
    reply = endpoint.load("x", qwen3_adapter)
    assert (reply.status, missing in reply.error["message"]) == (404, True)
    endpoint.child.close()


def test_adapters_and_base_at_the_same_time_never_mix(qwen3, qwen3_adapter: Path, facts) -> None:
    assert qwen3.load("one", qwen3_adapter).status == 200
    assert qwen3.load("two", qwen3_adapter).status == 200
    wrong: list[str] = []

    def ask(model: str) -> None:
        for row in facts[:3]:
            text = qwen3.chat(row["prompt"], model=model, max_tokens=32).text
            if text != ("I do not know." if model == qwen3.name else row["completion"]):
                wrong.append(text)

    threads = [threading.Thread(target=ask, args=(model,)) for model in ("one", "two", qwen3.name) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert qwen3.unload("one").status == 200
    assert qwen3.chat(facts[0]["prompt"], model="two").text == facts[0]["completion"]
    assert qwen3.unload("two").status == 200
