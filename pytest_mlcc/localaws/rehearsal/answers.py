"""The words of AWS's refusals, in each protocol's form and with the code that each service uses."""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape

from pytest_mlcc.localaws.rehearsal.calls import Call, Protocol
from pytest_mlcc.localaws.rehearsal.vocabulary import Fault, Trouble

__all__ = ["Answer", "refusal"]


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body of a refusal."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Words:
    code: str
    text: str
    status: int = 400


_RATE = "Rate exceeded"
_EXPIRED = "The security token included in the request is expired"
_QUOTA = "You have reached the limit of your account for {operation}. Request an increase of the quota to go on."

#: What a protocol says where its service has no words of its own.
_COMMON: Mapping[Fault, Mapping[Protocol, _Words]] = {
    Fault.THROTTLING: {
        Protocol.JSON: _Words("ThrottlingException", _RATE),
        Protocol.QUERY: _Words("Throttling", _RATE),
        Protocol.EC2: _Words("RequestLimitExceeded", "Request limit exceeded.", 503),
        Protocol.S3: _Words("SlowDown", "Please reduce your request rate.", 503),
    },
    Fault.RESOURCE_LIMIT_EXCEEDED: {
        Protocol.JSON: _Words("LimitExceededException", _QUOTA),
        Protocol.QUERY: _Words("LimitExceeded", _QUOTA, 409),
        Protocol.EC2: _Words("ResourceLimitExceeded", _QUOTA),
        Protocol.S3: _Words("TooManyBuckets", "You have attempted to create more buckets than allowed."),
    },
    Fault.ACCESS_DENIED: {
        Protocol.JSON: _Words("AccessDeniedException", ""),
        Protocol.REST_JSON: _Words("AccessDeniedException", "", 403),
        Protocol.QUERY: _Words("AccessDenied", "", 403),
        Protocol.EC2: _Words("UnauthorizedOperation", "You are not authorized to perform this operation.", 403),
        Protocol.S3: _Words("AccessDenied", "Access Denied", 403),
    },
    Fault.EXPIRED_TOKEN: {
        Protocol.JSON: _Words("ExpiredTokenException", _EXPIRED),
        Protocol.REST_JSON: _Words("ExpiredTokenException", _EXPIRED, 403),
        Protocol.QUERY: _Words("ExpiredToken", _EXPIRED, 403),
        Protocol.EC2: _Words("RequestExpired", "Request has expired.", 400),
        Protocol.S3: _Words("ExpiredToken", "The provided token has expired."),
    },
}

#: Protocols that speak as another does.
_AS = {Protocol.REST_JSON: Protocol.JSON, Protocol.REST_XML: Protocol.QUERY, Protocol.CBOR: Protocol.JSON}

_SAGEMAKER_LIMIT = (
    "The account-level service limit 'ml.g5.xlarge for {usage} usage' is 0 Instances, with current utilization of 0 Instances and a "
    "request delta of 1 Instances. Please use AWS Service Quotas to request an increase for this quota. If AWS Service Quotas is not "
    "available, contact AWS support to request an increase for this quota."
)

_USAGE = {"CreateTrainingJob": "training job", "CreateProcessingJob": "processing job", "CreateTransformJob": "transform job"}
"""What an instance is used for, in the words of SageMaker's quotas."""

_OWN: Mapping[tuple[Fault, str], _Words] = {
    (Fault.THROTTLING, "lambda"): _Words("TooManyRequestsException", "Rate Exceeded.", 429),
    (Fault.THROTTLING, "apigateway"): _Words("TooManyRequestsException", "Too Many Requests", 429),
    (Fault.THROTTLING, "servicequotas"): _Words("TooManyRequestsException", _RATE),
    (Fault.THROTTLING, "athena"): _Words("TooManyRequestsException", _RATE),
    (Fault.RESOURCE_LIMIT_EXCEEDED, "sagemaker"): _Words("ResourceLimitExceeded", _SAGEMAKER_LIMIT),
    (Fault.RESOURCE_LIMIT_EXCEEDED, "codebuild"): _Words(
        "AccountLimitExceededException", "Cannot have more than 0 builds in queue for the account"
    ),
    (Fault.RESOURCE_LIMIT_EXCEEDED, "states"): _Words("ExecutionLimitExceeded", _QUOTA),
    (Fault.RESOURCE_LIMIT_EXCEEDED, "lambda"): _Words("CodeStorageExceededException", "Code storage limit exceeded.", 400),
    (Fault.RESOURCE_LIMIT_EXCEEDED, "glue"): _Words("ResourceNumberLimitExceededException", _QUOTA),
    (Fault.ACCESS_DENIED, "s3"): _Words("AccessDenied", "Access Denied", 403),
}

_DYNAMODB_DATA = frozenset({
    "GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan", "BatchGetItem", "BatchWriteItem", "TransactGetItems",
    "TransactWriteItems",
})  # fmt: skip
_DYNAMODB_BUSY = _Words(
    "ProvisionedThroughputExceededException",
    "The level of configured provisioned throughput for the table was exceeded. Consider increasing your provisioning level with the "
    "UpdateTable API.",
)


def refusal(call: Call, trouble: Trouble, *, account: str) -> Answer:
    """The answer that a call gets that AWS refuses. ``trouble`` is of a fault that is an error."""
    words = _words(call, trouble.fault)
    caller = f"arn:aws:iam::{account}:user/local"
    denied = f"User: {caller} is not authorized to perform: {call.action} because no identity-based policy allows the {call.action} action"
    text = trouble.message or words.text.format(operation=call.operation, usage=_USAGE.get(call.operation, "endpoint")) or denied
    return _RENDER.get(call.protocol, _json)(call, words, text)


def _words(call: Call, fault: Fault) -> _Words:
    if fault is Fault.THROTTLING and call.service == "dynamodb" and call.operation in _DYNAMODB_DATA:
        return _DYNAMODB_BUSY
    common = _COMMON[fault]
    return _OWN.get((fault, call.service)) or common.get(call.protocol) or common[_AS[call.protocol]]


def _json(call: Call, words: _Words, text: str) -> Answer:
    kind = "application/x-amz-json-1.1" if call.protocol is Protocol.JSON else "application/json"
    body = {"__type": words.code, "message": text, "Message": text}
    return Answer(words.status, {"content-type": kind, "x-amzn-errortype": words.code}, json.dumps(body).encode())


def _xml(_call: Call, words: _Words, text: str) -> Answer:
    error = f"<Type>Sender</Type><Code>{words.code}</Code><Message>{escape(text)}</Message>"
    body = f"<ErrorResponse><Error>{error}</Error><RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
    return Answer(words.status, {"content-type": "text/xml"}, body.encode())


def _ec2(_call: Call, words: _Words, text: str) -> Answer:
    error = f"<Error><Code>{words.code}</Code><Message>{escape(text)}</Message></Error>"
    body = f'<?xml version="1.0"?><Response><Errors>{error}</Errors><RequestID>{uuid.uuid4()}</RequestID></Response>'
    return Answer(words.status, {"content-type": "text/xml"}, body.encode())


def _s3(_call: Call, words: _Words, text: str) -> Answer:
    error = f"<Code>{words.code}</Code><Message>{escape(text)}</Message><RequestId>{uuid.uuid4().hex[:16].upper()}</RequestId>"
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error>{error}</Error>'
    return Answer(words.status, {"content-type": "application/xml"}, body.encode())


def _cbor(_call: Call, words: _Words, text: str) -> Answer:
    """A map of two texts, see RFC 8949: 0xa2, then each text with its length before it."""
    body = b"\xa2" + b"".join(_cbor_text(part) for part in ("__type", words.code, "message", text))
    return Answer(words.status, {"content-type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}, body)


def _cbor_text(text: str) -> bytes:
    data = text.encode()
    return b"\x79" + struct.pack("!H", len(data)) + data


_RENDER = {Protocol.QUERY: _xml, Protocol.REST_XML: _xml, Protocol.EC2: _ec2, Protocol.S3: _s3, Protocol.CBOR: _cbor}
