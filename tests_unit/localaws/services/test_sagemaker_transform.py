"""Transform jobs: every record of a data set through a model's container, and what comes of it in S3."""

from __future__ import annotations

import gzip
import json
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError
from image_push import push_image

ROLE = "arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role"
LOG_GROUP = "/aws/sagemaker/TransformJobs"

# A model that answers each line with its upper case, or as JSON; it knows bad words, and slow ones.
_MODEL = """\
#!/usr/bin/env python3
import http.server, json, os, sys, time
if os.environ.get("EXIT"):
    sys.exit(int(os.environ["EXIT"]))
print("model files", sorted(os.listdir("/opt/ml/model")), flush=True)
failures = [int(os.environ.get("FAILURES", "0"))]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        told = json.dumps({"MaxConcurrentTransforms": 2, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 1}).encode()
        if self.path == "/execution-parameters" and os.environ.get("TELL"):
            return self.answer(200, told)
        self.answer(200 if self.path == "/ping" else 404, b"")
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        print("asked", self.headers.get("Content-Type"), self.headers.get("Accept"), body[:40], flush=True)
        if b"bad" in body:
            return self.answer(400, b"a bad word")
        if failures[0]:
            failures[0] -= 1
            return self.answer(500, b"not now")
        if b"slow" in body:
            time.sleep(60)
        if self.headers.get("Content-Type") == "text/csv":
            rows = [line.split(",") for line in body.decode().split()]
            return self.answer(200, "\\n".join(str(sum(map(float, row))) for row in rows).encode())
        if "json" in self.headers.get("Content-Type", ""):
            answers = [json.dumps({"n": len(line)}) for line in body.decode().split("\\n") if line]
            return self.answer(200, "\\n".join(answers).encode())
        self.answer(200, b"[" + body.upper().strip() + b"]")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer.daemon_threads = True
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""


class Transform:
    """A bucket, a model, and the shortest way to a job."""

    def __init__(self, aws: Any, directory: Path) -> None:
        self.aws = aws
        self.sagemaker, self.s3, self.logs = (aws.client(name) for name in ("sagemaker", "s3", "logs"))
        self.bucket = f"transform-{uuid.uuid4().hex[:8]}"
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": aws.region})
        self.image = push_image(aws, f"model-{uuid.uuid4().hex[:6]}", _MODEL, directory / "files")
        self.model = self.make_model()

    def make_model(self, **environment: str) -> str:
        name = f"model-{uuid.uuid4().hex[:8]}"
        self.put("model/weights.bin", b"weights")
        container = {"Image": self.image, "ModelDataUrl": f"s3://{self.bucket}/model/", "Environment": environment}
        self.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
        return name

    def put(self, key: str, body: bytes) -> str:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        return f"s3://{self.bucket}/{key}"

    def start(self, uri: str, *, kind: str = "text/plain", source: dict[str, Any] | None = None, output: dict[str, Any] | None = None,
              **changes: Any) -> str:  # fmt: skip
        name = changes.pop("name", f"job-{uuid.uuid4().hex[:8]}")
        data = {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}, "ContentType": kind}
        request = {
            "TransformJobName": name, "ModelName": self.model, "TransformInput": {**data, **(source or {})},
            "TransformOutput": {"S3OutputPath": f"s3://{self.bucket}/out/{name}", **(output or {})},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1}, **changes,
        }  # fmt: skip
        self.sagemaker.create_transform_job(**request)
        return name

    def lines(self, uri: str, **changes: Any) -> str:
        return self.start(uri, source={"SplitType": "Line"}, output={"AssembleWith": "Line", **changes.pop("output", {})}, **changes)

    def describe(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.sagemaker.describe_transform_job(TransformJobName=name)
        return answer

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 40
        while not done():
            assert time.monotonic() < deadline
            time.sleep(0.03)

    def end(self, name: str) -> dict[str, Any]:
        self.until(lambda: self.describe(name)["TransformJobStatus"] in ("Completed", "Failed", "Stopped"))
        return self.describe(name)

    def outputs(self, name: str) -> Mapping[str, str]:
        prefix = f"out/{name}/"
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        keys = [item["Key"] for item in listed]
        return {key.removeprefix(prefix): self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read().decode() for key in keys}

    def complete(self, name: str) -> Mapping[str, str]:
        job = self.end(name)
        assert job["TransformJobStatus"] == "Completed", (job.get("FailureReason"), self.log(name), self.log(name, data=True))
        return self.outputs(name)

    def log(self, name: str, *, data: bool = False) -> list[str]:
        streams = self.logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix=f"{name}/i-")["logStreams"]
        found = [stream["logStreamName"] for stream in streams if stream["logStreamName"].endswith("/data-log") == data]
        events = [self.logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=one)["events"] for one in found]
        return [event["message"] for each in events for event in each]


@pytest.fixture(scope="module")
def transform(local_aws: Any, tmp_path_factory: pytest.TempPathFactory) -> Transform:
    return Transform(local_aws, tmp_path_factory.mktemp("model"))


def test_a_registered_model_transforms_by_its_packages_arn(transform: Transform) -> None:
    group = f"group-{uuid.uuid4().hex[:8]}"
    transform.sagemaker.create_model_package_group(ModelPackageGroupName=group)
    kinds = {"SupportedContentTypes": ["text/plain"], "SupportedResponseMIMETypes": ["text/plain"]}
    package = transform.sagemaker.create_model_package(
        ModelPackageGroupName=group, InferenceSpecification={"Containers": [{"Image": transform.image}], **kinds}
    )["ModelPackageArn"]
    transform.sagemaker.create_model(ModelName=group, PrimaryContainer={"ModelPackageName": package}, ExecutionRoleArn=ROLE)
    name = transform.start(transform.put("registered/one", b"one"), ModelName=group)
    assert list(transform.complete(name)) == ["one.out"]


def test_a_job_is_shown_with_the_defaults_of_what_it_was_not_asked(transform: Transform) -> None:
    job = transform.end(transform.start(transform.put("plain/one", b"one")))
    assert (job["TransformInput"]["SplitType"], job["TransformInput"]["CompressionType"]) == ("None", "None")
    assert (job["TransformInput"]["ContentType"], job["TransformOutput"]["AssembleWith"]) == ("text/plain", "None")
    assert job["DataProcessing"] == {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}


def test_whole_files_are_sent_and_the_answers_lie_where_the_files_lay(transform: Transform) -> None:
    uri = transform.put("whole/a.txt", b"one").removesuffix("a.txt")
    transform.put("whole/deep/b.txt", b"two\nlines")
    name = transform.start(uri, output={"Accept": "text/x"})
    transform.sagemaker.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName=name, WaiterConfig={"Delay": 1})
    assert transform.complete(name) == {"a.txt.out": "[ONE]", "deep/b.txt.out": "[TWO\nLINES]"}
    log = transform.log(name)
    assert log[0] == "model files ['weights.bin']"
    assert "asked text/plain text/x b'one'" in log
    assert any("BatchStrategy=MultiRecord" in line for line in transform.log(name, data=True))
    assert not [path for path in (transform.aws.state_dir / "jobs").iterdir() if name in path.name]


def test_lines_go_one_by_one_or_as_many_as_fit(transform: Transform) -> None:
    uri = transform.put("lines/a.txt", b"one\ntwo\n\nthree")
    assert transform.complete(transform.lines(uri, BatchStrategy="SingleRecord")) == {"a.txt.out": "[ONE]\n[TWO]\n[THREE]\n"}
    assert transform.complete(transform.lines(uri, BatchStrategy="MultiRecord")) == {"a.txt.out": "[ONE\nTWO\nTHREE]\n"}


def test_answers_keep_the_order_of_the_records_when_several_are_asked_at_once(transform: Transform) -> None:
    uri = transform.put("order/a.txt", b"".join(b"r%03d\n" % number for number in range(200)))
    name = transform.lines(uri, BatchStrategy="SingleRecord", MaxConcurrentTransforms=8)
    assert transform.complete(name)["a.txt.out"] == "".join(f"[R{number:03d}]\n" for number in range(200))


def test_the_container_may_say_how_it_wants_to_be_asked(transform: Transform) -> None:
    uri = transform.put("told/a.txt", b"one\ntwo\n")
    name = transform.lines(uri, ModelName=transform.make_model(TELL="1"))
    assert transform.complete(name) == {"a.txt.out": "[ONE]\n[TWO]\n"}
    assert "MaxConcurrentTransforms=2, MaxPayloadInMB=1, BatchStrategy=SingleRecord" in transform.log(name, data=True)[0]


def test_csv_is_filtered_joined_and_filtered_again(transform: Transform) -> None:
    uri = transform.put("csv/a.csv", b"id1,1,2\nid2,3,4\n")
    data = {"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"}
    name = transform.lines(uri, kind="text/csv", output={"Accept": "text/csv"}, DataProcessing=data)
    assert transform.complete(name) == {"a.csv.out": "id1,3.0\nid2,7.0\n"}


def test_json_lines_get_their_answers_beside_them(transform: Transform) -> None:
    uri = transform.put("json/a.jsonl", b'{"id":1,"text":"ab"}\n{"id":2,"text":"abcd"}\n')
    data = {"InputFilter": "$.text", "JoinSource": "Input", "OutputFilter": "$['id','SageMakerOutput']"}
    name = transform.lines(uri, kind="application/jsonlines", DataProcessing=data)
    rows = [json.loads(line) for line in transform.complete(name)["a.jsonl.out"].splitlines()]
    assert rows == [{"id": 1, "SageMakerOutput": {"n": 4}}, {"id": 2, "SageMakerOutput": {"n": 6}}]


def test_packed_input_is_unpacked(transform: Transform) -> None:
    uri = transform.put("packed/a.gz", gzip.compress(b"one"))
    assert transform.complete(transform.start(uri, source={"CompressionType": "Gzip"})) == {"a.gz.out": "[ONE]"}


def test_a_bad_record_fails_the_job_and_other_files_are_kept(transform: Transform) -> None:
    uri = transform.put("mixed/a.txt", b"good").removesuffix("a.txt")
    transform.put("mixed/b.txt", b"bad")
    name = transform.start(uri)
    job = transform.end(name)
    assert (job["TransformJobStatus"], job["FailureReason"]) == ("Failed", "ClientError: See job logs for more information")
    assert transform.outputs(name) == {"a.txt.out": "[GOOD]"}
    told = transform.log(name, data=True)
    assert any(line.endswith("mixed/b.txt: Bad HTTP status received from algorithm: 400") for line in told)
    assert any(line.endswith("a bad word") for line in told)


def test_records_beyond_the_payload_limit_fail_the_job(transform: Transform) -> None:
    job = transform.end(transform.start(transform.put("big/a.txt", b"x" * (1 << 20 | 1)), MaxPayloadInMB=1))
    assert job["FailureReason"] == "ClientError: See job logs for more information"
    assert any("Too much data for max payload size" in line for line in transform.log(job["TransformJobName"], data=True))


def test_requests_are_tried_again_as_often_as_the_job_allows(transform: Transform) -> None:
    uri, model = transform.put("retry/a.txt", b"one"), transform.make_model(FAILURES="2")
    assert transform.complete(transform.start(uri, ModelName=model)) == {"a.txt.out": "[ONE]"}
    job = transform.end(transform.start(uri, ModelName=model, ModelClientConfig={"InvocationsMaxRetries": 1}))
    assert job["FailureReason"] == "AlgorithmError: See job logs for more information"


def test_a_model_that_takes_too_long_fails_the_job(transform: Transform) -> None:
    limits = {"InvocationsTimeoutInSeconds": 1, "InvocationsMaxRetries": 0}
    job = transform.end(transform.start(transform.put("slow/a.txt", b"slow"), ModelClientConfig=limits))
    assert job["FailureReason"] == "AlgorithmError: See job logs for more information"
    assert any("Unable to get response from algorithm" in line for line in transform.log(job["TransformJobName"], data=True))


def test_a_running_job_can_be_stopped_and_its_container_is_gone(transform: Transform) -> None:
    name = transform.start(transform.put("slow/b.txt", b"slow"), Environment={"MARK": (mark := uuid.uuid4().hex)})
    transform.until(
        lambda: any("slow" in line for line in transform.log(name)) if transform.describe(name).get("TransformStartTime") else False
    )
    transform.sagemaker.stop_transform_job(TransformJobName=name)
    job = transform.end(name)
    assert job["TransformJobStatus"] == "Stopped"
    assert job["TransformEndTime"] >= job["TransformStartTime"]
    assert not [one for one in psutil.process_iter(["environ"]) if (one.info["environ"] or {}).get("MARK") == mark]
    with pytest.raises(ClientError, match="transform job is in status Stopped"):
        transform.sagemaker.stop_transform_job(TransformJobName=name)


def test_a_container_that_does_not_serve_fails_the_job_in_awss_words(transform: Transform) -> None:
    job = transform.end(transform.start(transform.put("dead/a.txt", b"x"), ModelName=transform.make_model(EXIT="3")))
    assert job["FailureReason"].startswith("AlgorithmError: Model container failed to respond to ping.")


def test_input_that_is_not_there_is_named_in_awss_words(transform: Transform) -> None:
    job = transform.end(transform.start(f"s3://{transform.bucket}/nowhere/"))
    assert job["FailureReason"].startswith('ClientError: No S3 objects found under S3 URL "s3://')


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ModelName": "no-such-model"}, "Could not find model"),
        ({"source": {"SplitType": "RecordIO"}}, "SplitType RecordIO is not supported"),
        ({"MaxConcurrentTransforms": 30, "MaxPayloadInMB": 6}, "must not be greater than 100 MB"),
        ({"DataProcessing": {"InputFilter": "$..x"}}, "Invalid JSONPath"),
        ({"DataProcessing": {"InputFilter": "$.x"}}, "needs ContentType and Accept"),
        ({"kind": "text/csv", "output": {"Accept": "application/json"}, "DataProcessing": {"JoinSource": "Input"}}, "the same format"),
        ({"kind": "text/csv", "source": {"SplitType": "Line"}, "DataProcessing": {"JoinSource": "Input"}}, "AssembleWith Line"),
    ],
)
def test_what_can_not_be_transformed_is_refused(transform: Transform, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ClientError, match=expected) as caught:
        transform.start(f"s3://{transform.bucket}/whole/", **changes)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
