"""Every protocol's refusal is read by botocore's own parser, as a client would read it."""

from __future__ import annotations

import pytest
from botocore.parsers import create_parser
from botocore.session import get_session

from pytest_mlcc.aws.errors import translate
from pytest_mlcc.errors import FailureClass, StageError
from pytest_mlcc.localaws.rehearsal.answers import refusal
from pytest_mlcc.localaws.rehearsal.calls import Call, Protocol
from pytest_mlcc.localaws.rehearsal.vocabulary import Fault, Trouble

SERVICES = {
    Protocol.JSON: ("sagemaker", "CreateEndpoint"),
    Protocol.REST_JSON: ("lambda", "Invoke"),
    Protocol.QUERY: ("iam", "GetRole"),
    Protocol.EC2: ("ec2", "DescribeVpcs"),
    Protocol.S3: ("s3", "PutObject"),
    Protocol.CBOR: ("cloudwatch", "ListMetrics"),
    Protocol.REST_XML: ("cloudfront", "ListDistributions"),
}
CLASSES = {
    Fault.THROTTLING: FailureClass.THROTTLE,
    Fault.RESOURCE_LIMIT_EXCEEDED: FailureClass.QUOTA,
    Fault.ACCESS_DENIED: FailureClass.CREDENTIALS,
    Fault.EXPIRED_TOKEN: FailureClass.CREDENTIALS,
}


@pytest.mark.parametrize("fault", CLASSES)
@pytest.mark.parametrize("protocol", SERVICES)
def test_a_client_reads_code_and_text_and_a_stage_gets_the_right_class(protocol: Protocol, fault: Fault) -> None:
    from botocore.exceptions import ClientError

    service, operation = SERVICES[protocol]
    answer = refusal(Call(service, operation, protocol), Trouble(fault, message="too <much>"), account="1")
    model = get_session().get_service_model(service)
    wire = "rest-xml" if protocol is Protocol.S3 else str(protocol)
    response = {"status_code": answer.status, "headers": dict(answer.headers), "body": answer.body}
    parsed = create_parser(wire).parse(response, model.operation_model(operation).output_shape)
    assert parsed["Error"]["Message"] == "too <much>"
    error = translate(ClientError(parsed, operation), "try")
    assert isinstance(error, StageError)
    assert error.failure_class is CLASSES[fault], parsed["Error"]["Code"]


def test_a_quota_is_told_in_the_words_of_what_is_made() -> None:
    for operation, usage in (("CreateEndpoint", "endpoint"), ("CreateTrainingJob", "training job")):
        answer = refusal(Call("sagemaker", operation, Protocol.JSON), Trouble(Fault.RESOURCE_LIMIT_EXCEEDED), account="1")
        assert f"for {usage} usage' is 0 Instances" in answer.body.decode()
