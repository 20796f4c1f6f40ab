"""A fault plan that does not say what its author meant rehearses nothing: each mistake is told, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mlcc.errors import ConfigurationError
from pytest_mlcc.localaws.rehearsal.plan import FaultPlan, read_plan
from pytest_mlcc.localaws.rehearsal.vocabulary import Fault


def plan(tmp_path: Path, text: str) -> FaultPlan:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    return read_plan(path)


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        plan(tmp_path, text)
    return [str(problem).removeprefix(f"{tmp_path}/plan.yaml, ") for problem in caught.value.problems]


def rule(tmp_path: Path, text: str) -> list[str]:
    return mistakes(tmp_path, f"rules: [{{{text}}}]")


def test_a_whole_plan(tmp_path: Path) -> None:
    found = plan(
        tmp_path,
        """
        seed: 7
        rules:
          - operation: sagemaker:CreateEndpoint
            resource: "*rt-qwen3*"
            fault: insufficient-instance-capacity
            calls: [1, 3]
          - {operation: "dynamodb:*", fault: throttling, probability: 0.2}
          - {operation: "stepfunctions:StartExecution", fault: slow-answer, seconds: 3, calls: "2-4"}
        """,
    )
    assert str(found) == "plan.yaml (3 rules, seed 7)"
    first, second, third = found.rules
    assert (first.fault, first.calls, first.resource) == (Fault.INSUFFICIENT_CAPACITY, ((1, 1), (3, 3)), "*rt-qwen3*")
    assert second.probability == 0.2
    assert (third.operation, third.calls) == ("states:StartExecution", ((2, 4),)), "as requests are signed"


def test_it_survives_the_way_to_the_server(tmp_path: Path) -> None:
    found = plan(
        tmp_path,
        """
        rules:
          - {operation: "s3:PutObject", fault: throttling, calls: [1, "3-5", "9-"], message: too fast}
          - {operation: "sagemaker:CreateTrainingJob", fault: job-fails, step: 3, probability: 0.5}
        """,
    )
    assert FaultPlan.parse(found.to_json()) == found


def test_every_mistake_is_told_at_once_with_rule_and_key(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path,
        """
        sead: 1
        rules:
          - {operation: "sagemaker:CreateEndpont", fault: throttling}
          - {operation: "sagemaker:CreateEndpoint", fault: throtling}
          - {operation: "dynamo:PutItem", fault: throttling, call: 2}
          - {operation: "dynamo:PutItem", fault: throttling}
          - nonsense
          - {fault: throttling}
        """,
    )
    assert found == [
        "sead: is no key of a fault plan (did you mean 'seed'?)",
        "rule 1, operation: sagemaker has no operation 'CreateEndpont' (did you mean 'CreateEndpoint'?)",
        "rule 2, fault: 'throtling' is no fault (did you mean 'throttling'?)",
        "rule 3, call: is no key of a rule (did you mean 'calls'?)",
        "rule 3, operation: AWS has no service 'dynamo' (did you mean 'dynamodb'?)",
        "rule 4, operation: AWS has no service 'dynamo' (did you mean 'dynamodb'?)",
        "rule 5: 'nonsense' is not a rule (give it the keys operation and fault at least)",
        "rule 6, operation: is missing",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("operation: CreateEndpoint, fault: throttling", "is not <service>:<operation>"),
        ("operation: 's3:PutObject', fault: throttling, resource: ''", "resource: '': string should have at least 1 character"),
        ("operation: 's3:PutObject', fault: throttling, calls: 0", "calls: 0 is neither a number from 1 on"),
        ("operation: 's3:PutObject', fault: throttling, calls: '3-1'", "calls: '3-1' is neither a number"),
        ("operation: 's3:PutObject', fault: throttling, calls: []", "calls: [] is neither a number"),
        ("operation: 's3:PutObject', fault: throttling, calls: 1, probability: 0.5", "calls and probability exclude each other"),
        ("operation: 's3:PutObject', fault: throttling, probability: 2", "probability: 2: input should be less than or equal to 1"),
        ("operation: 's3:PutObject', fault: throttling, seconds: 2", "seconds: the fault throttling takes only message"),
        ("operation: 's3:PutObject', fault: connection-reset, step: 2", "step: the fault connection-reset takes no parameter"),
        ("operation: 's3:PutObject', fault: slow-answer", "seconds: is missing: the fault slow-answer needs it"),
        ("operation: 's3:PutObject', fault: stuck", "makes nothing that stuck could befall"),
        ("operation: 'sagemaker:CreateEndpoint', fault: job-fails", "makes nothing that job-fails could befall"),
    ],
)
def test_a_rule_that_can_not_do_what_it_says_is_a_mistake(tmp_path: Path, text: str, words: str) -> None:
    found = rule(tmp_path, text)
    assert len(found) == 1
    assert words in found[0]


@pytest.mark.parametrize("text", ["seed: 1", "rules: []", "rules: 3", "seed: x\nrules: [{operation: 's3:*', fault: throttling}]"])
def test_a_plan_without_rules_or_with_a_senseless_seed_is_a_mistake(tmp_path: Path, text: str) -> None:
    assert len(mistakes(tmp_path, text)) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("? [a, b]\n: c\n", "line 1, column 3: a key has to be a word"),
        ("seed: 1\n---\nseed: 2\n", "line 2, column 1: expected a single document in the stream, but found another document"),
        ("rules:\n- {fault: throttling, fault: stuck}\n", "line 2, column 23: the key 'fault' is given twice"),
    ],
)
def test_a_file_that_is_no_plan_is_answered_with_the_place(tmp_path: Path, text: str, words: str) -> None:
    (found,) = mistakes(tmp_path, text)
    assert found == words


def test_rules_may_share_keys_as_yaml_lets_them(tmp_path: Path) -> None:
    first, second = plan(
        tmp_path,
        """
        rules:
          - &all {operation: "s3:*", fault: throttling, probability: 0.5}
          - {<<: *all, operation: "dynamodb:*"}
        """,
    ).rules
    assert (second.operation, second.fault, second.probability) == ("dynamodb:*", first.fault, first.probability)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml: this fault plan can't be read: No such file"):
        read_plan(tmp_path / "nowhere.yaml")


def test_a_service_may_be_a_pattern(tmp_path: Path) -> None:
    assert plan(tmp_path, "rules: [{operation: '*:Delete*', fault: access-denied}]").rules[0].is_about("s3:DeleteObject")
