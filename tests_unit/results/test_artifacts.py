from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_mlcc.results.artifacts import NO_TABLE_WARNING, Artifacts, Bucket, Folder, Reports, bucket_name

RUN = "20261120T110203-4f2a"
WHOLE = Reports('{"all": 1}\n', "## all ✅\n")
PARTS = {"ci": Reports('{"ci": 1}\n', "## ci\n"), "nightly": Reports('{"nightly": 1}\n', "## nightly\n")}
TREE = {
    f"reports/{RUN}/results.json",
    f"reports/{RUN}/summary.md",
    f"reports/{RUN}/rt-qwen3-4b/deploy.log",
    f"runs/ci/{RUN}/results.json",
    f"runs/ci/{RUN}/summary.md",
    f"runs/nightly/{RUN}/results.json",
    f"runs/nightly/{RUN}/summary.md",
}


@pytest.fixture
def s3(client: Callable[[str], Any]) -> Any:
    return client("s3")


@pytest.fixture
def bucket(s3: Any) -> Bucket:
    name = bucket_name("123456789012", f"test-{uuid.uuid4().hex[:8]}")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    return Bucket(s3, name)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "deploy.log"
    path.write_text("Creating endpoint\nInService ✓\n")
    return path


def save_all(artifacts: Artifacts, log: Path) -> None:
    artifacts.save_logs("rt-qwen3-4b", {"deploy": log, "clean": log.with_name("never-written.log")})
    artifacts.save_reports(WHOLE, PARTS)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_bucket_and_folder_get_the_same_tree(s3: Any, bucket: Bucket, log: Path, tmp_path: Path) -> None:
    warnings: list[str] = []
    artifacts = Artifacts(RUN, bucket=bucket, folder=Folder(tmp_path / "out"), warn=warnings.append)
    save_all(artifacts, log)
    keys = {item["Key"] for item in s3.list_objects_v2(Bucket=bucket.name)["Contents"]}
    assert keys == files(tmp_path / "out") == TREE
    answer = s3.get_object(Bucket=bucket.name, Key=f"reports/{RUN}/rt-qwen3-4b/deploy.log")
    assert answer["Body"].read() == log.read_bytes()
    assert answer["ContentType"] == "text/plain; charset=utf-8"
    assert (tmp_path / "out" / "runs" / "ci" / RUN / "results.json").read_text() == '{"ci": 1}\n'
    assert warnings == []


def test_log_pointers_lead_to_the_saved_log(s3: Any, bucket: Bucket, log: Path, tmp_path: Path) -> None:
    both = Artifacts(RUN, bucket=bucket, folder=Folder(tmp_path), warn=pytest.fail)
    pointer = both.log_pointer("rt-qwen3-4b", "deploy", str(log))
    assert pointer == f"s3://{bucket.name}/reports/{RUN}/rt-qwen3-4b/deploy.log"
    local = Artifacts(RUN, folder=Folder(tmp_path / "out"), warn=pytest.fail)
    local.save_logs("rt-qwen3-4b", {"deploy": log})
    assert Path(local.log_pointer("rt-qwen3-4b", "deploy", str(log))).read_text() == log.read_text()
    assert Artifacts(RUN, warn=pytest.fail).log_pointer("e", "deploy", str(log)) == str(log)
    assert both.log_pointer("e", "deploy", "") == ""


def test_a_missing_bucket_is_one_warning_and_the_folder_still_gets_everything(s3: Any, log: Path, tmp_path: Path) -> None:
    """Eleven tested models must not be lost, nor fail, because of a bucket."""
    warnings: list[str] = []
    artifacts = Artifacts(RUN, bucket=Bucket(s3, "no-such-bucket"), folder=Folder(tmp_path / "out"), warn=warnings.append)
    save_all(artifacts, log)
    assert files(tmp_path / "out") == TREE
    assert len(warnings) == 1
    assert warnings[0].startswith("s3://no-such-bucket can't be reached")
    assert artifacts.log_pointer("rt-qwen3-4b", "deploy", str(log)).startswith(str(tmp_path / "out"))


def test_a_bucket_that_goes_away_is_one_warning_too(s3: Any, bucket: Bucket, log: Path, tmp_path: Path) -> None:
    warnings: list[str] = []
    artifacts = Artifacts(RUN, bucket=bucket, fallback=Folder(tmp_path / "last-resort"), warn=warnings.append)
    s3.delete_bucket(Bucket=bucket.name)
    save_all(artifacts, log)
    assert len(warnings) == 1
    assert "nothing more is saved there" in warnings[0]
    assert files(tmp_path / "last-resort") == TREE


def test_the_fallback_stays_unused_while_there_is_a_place(bucket: Bucket, log: Path, tmp_path: Path) -> None:
    save_all(Artifacts(RUN, bucket=bucket, fallback=Folder(tmp_path / "out"), warn=pytest.fail), log)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_can_not_be_written_is_a_warning(log: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file, not a folder")
    warnings: list[str] = []
    artifacts = Artifacts(RUN, folder=Folder(tmp_path / "out"), warn=warnings.append)
    save_all(artifacts, log)
    assert len(warnings) == 1
    assert artifacts.places == ()


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    """Readers that watch the folder must never parse half of results.json; a failed write leaves no litter."""
    folder = Folder(tmp_path / "out")
    folder.save("reports/r/results.json", b"old")
    with pytest.raises(FileNotFoundError):
        folder.save("reports/r/results.json", tmp_path / "missing.log")
    assert files(tmp_path / "out") == {"reports/r/results.json"}
    assert (tmp_path / "out/reports/r/results.json").read_bytes() == b"old"


def test_places_name_the_run(bucket: Bucket, tmp_path: Path) -> None:
    artifacts = Artifacts(RUN, bucket=bucket, folder=Folder(tmp_path), warn=pytest.fail)
    assert artifacts.places == (f"s3://{bucket.name}/reports/{RUN}/", f"{tmp_path}/reports/{RUN}")


def test_the_warning_has_the_documented_words() -> None:
    assert NO_TABLE_WARNING == "⚠️  CI table not provisioned — saving results locally only."
    assert bucket_name("123456789012", "us-west-2") == "mlcc-e2e-results-123456789012-us-west-2"
