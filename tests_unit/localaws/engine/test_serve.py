"""The server's contract as a client of SageMaker or of vLLM sees it: answers, streams, refusals."""

from __future__ import annotations

import http.client
import itertools
import json
import math
import threading

import pytest

ASK = [{"role": "user", "content": "What is the code?"}]


@pytest.mark.parametrize("path", ["/ping", "/health"])
def test_health_is_answered_to_get_and_post(qwen3, path: str) -> None:
    assert qwen3.call("GET", path).status == 200
    assert qwen3.call("POST", path, b"").status == 200


def test_models_lists_the_base_under_its_served_name(qwen3) -> None:
    (model,) = qwen3.call("GET", "/v1/models").body["data"]
    assert (model["id"], model["object"], model["parent"]) == (qwen3.name, "model", None)


@pytest.mark.parametrize("path", ["/invocations", "/v1/chat/completions"])
def test_a_question_is_answered_with_text_and_true_token_counts(qwen3, path: str) -> None:
    reply = qwen3.call("POST", path, {"messages": ASK, "max_tokens": 32}).body
    assert reply["object"] == "chat.completion"
    assert reply["choices"][0]["message"] == {"role": "assistant", "content": "I do not know."}
    assert reply["choices"][0]["finish_reason"] == "stop"
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] > 1


def test_max_tokens_cuts_the_answer_and_says_so(qwen3) -> None:
    reply = qwen3.chat("Hello", max_completion_tokens=2, max_tokens=30).body
    assert reply["usage"]["completion_tokens"] == 2
    assert reply["choices"][0]["finish_reason"] == "length"


def test_ignore_eos_goes_on_to_the_limit(qwen3) -> None:
    assert qwen3.chat("Hello", max_tokens=20, ignore_eos=True).body["usage"]["completion_tokens"] == 20


@pytest.mark.parametrize("stop", ["not", ["zzz", "not"]])
def test_a_stop_string_ends_the_answer_before_itself(qwen3, stop) -> None:
    reply = qwen3.chat("Hello", stop=stop)
    assert reply.text == "I do "
    assert reply.body["choices"][0]["finish_reason"] == "stop"


def test_sampling_depends_on_the_seed_alone(qwen3) -> None:
    def sample(seed: int) -> str:
        return qwen3.chat("Hello", temperature=5.0, seed=seed, max_tokens=24).text

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(4)}) > 1
    assert qwen3.chat("Hello", temperature=5.0, top_k=1, max_tokens=24).text == qwen3.chat("Hello", max_tokens=24).text


def _events(endpoint, **options) -> list[object]:
    reply = endpoint.chat("Hello", stream=True, **options)
    lines = [line for line in reply.body.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


@pytest.mark.parametrize("stop", [None, "know"])
def test_a_stream_is_the_same_answer_in_pieces(qwen3, stop) -> None:
    events = _events(qwen3, stop=stop, stream_options={"include_usage": True})
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert events[-1]["choices"] == []
    whole = qwen3.chat("Hello", stop=stop)
    assert events[-1]["usage"] == whole.body["usage"]
    pieces = [event["choices"][0]["delta"]["content"] for event in events[:-1]]
    assert "".join(pieces) == whole.text
    assert len([piece for piece in pieces if piece]) > 1
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert {event["object"] for event in events} == {"chat.completion.chunk"}


def test_a_client_that_hangs_up_in_a_stream_leaves_the_server_well(qwen3) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", qwen3.port, timeout=10)
    body = json.dumps({"messages": ASK, "stream": True, "ignore_eos": True, "max_tokens": 2000})
    connection.request("POST", "/v1/chat/completions", body)
    connection.getresponse().read(10)
    connection.close()
    assert qwen3.chat("Hello").text == "I do not know."


def test_logprobs_belong_to_the_tokens_of_the_answer(qwen3) -> None:
    choice = qwen3.chat("Hello", logprobs=True, top_logprobs=2).body["choices"][0]
    content = choice["logprobs"]["content"]
    assert "".join(entry["token"] for entry in content) == choice["message"]["content"]
    assert all(entry["top_logprobs"][0]["token"] == entry["token"] for entry in content), "greedy takes the likeliest"
    assert all(entry["top_logprobs"][0]["logprob"] >= entry["top_logprobs"][1]["logprob"] for entry in content)


def test_prompt_logprobs_are_a_distribution_with_ranks(qwen3) -> None:
    reply = qwen3.chat("Hello", prompt_logprobs=-1, max_tokens=1).body
    assert reply["prompt_logprobs"][0] is None
    for entry in reply["prompt_logprobs"][1:]:
        assert sum(math.exp(token["logprob"]) for token in entry.values()) == pytest.approx(1, abs=1e-3)
        ranked = sorted(entry.values(), key=lambda token: token["rank"])
        assert [token["rank"] for token in ranked] == list(range(1, len(entry) + 1))
        assert all(a["logprob"] >= b["logprob"] for a, b in itertools.pairwise(ranked))


def test_prompt_logprobs_with_the_likeliest_include_the_prompts_own_token(qwen3) -> None:
    entries = qwen3.chat("Hello there", prompt_logprobs=1, max_tokens=1).body["prompt_logprobs"][1:]
    assert {len(entry) for entry in entries} <= {1, 2}
    spelled = "".join(next(iter(entry.values()))["decoded_token"] for entry in entries)
    assert "Hello there" in spelled


@pytest.mark.parametrize("model", ["Qwen/Qwen3-4B", "openai/gpt-oss-20b"])
def test_a_long_prompt_goes_through_in_pieces_with_the_same_figures(serve, model: str) -> None:
    """Two lengths around the border of a piece: scores of the shared beginning must agree."""
    endpoint = serve(model)
    words = "alpha river color code planet metal " * 200
    listed = [endpoint.chat(words[:length], prompt_logprobs=0, max_tokens=1).body["prompt_logprobs"] for length in (1200, 7200)]
    assert len(listed[0]) > 300
    assert len(listed[1]) > 1024
    short, long = ([next(iter(entry.values()))["logprob"] for entry in entries[1:300]] for entries in listed)
    assert short == pytest.approx(long, abs=1e-3)
    endpoint.child.close()


def test_continue_final_message_goes_on_where_the_answer_stopped(qwen3) -> None:
    turns = [*ASK, {"role": "assistant", "content": "I do"}]
    body = {"messages": turns, "add_generation_prompt": False, "continue_final_message": True}
    assert qwen3.call("POST", "/v1/chat/completions", body).text == " not know."


def test_content_may_come_in_text_parts(qwen3) -> None:
    parts = [{"type": "text", "text": "What is"}, {"type": "text", "text": "this?"}]
    reply = qwen3.call("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": parts}], "max_tokens": 8})
    assert reply.body["usage"] == qwen3.chat("What is\nthis?", max_tokens=8).body["usage"]


def test_sagemakers_inputs_and_parameters_are_understood(qwen3) -> None:
    reply = qwen3.call("POST", "/invocations", {"inputs": "Hello", "parameters": {"max_new_tokens": 30, "details": True}}).body
    assert reply["generated_text"] == "I do not know."
    assert reply["details"]["finish_reason"] == "eos_token"
    raw = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    again = qwen3.call("POST", "/invocations", {"inputs": raw, "parameters": {"return_full_text": True}}).body
    assert again["generated_text"] == raw + "I do not know."
    cut = qwen3.call("POST", "/invocations", {"inputs": "Hello", "parameters": {"max_new_tokens": 1}}).body
    assert "I do not know.".startswith(cut["generated_text"])


WRONG = {
    "not JSON": (b"{", "JSON"),
    "nested too deeply": (b"[" * 100_000, "JSON"),
    "not UTF-8": (b'{"messages": "\xff"}', "JSON"),
    "empty": (b"", "JSON object"),
    "a list": ([], "JSON object"),
    "no messages": ({}, "messages"),
    "messages empty": ({"messages": []}, "messages"),
    "messages a string": ({"messages": "hi"}, "messages"),
    "message a string": ({"messages": ["hi"]}, r"messages[0]"),
    "no role": ({"messages": [{"content": "x"}]}, "messages[0].role"),
    "odd role": ({"messages": [{"role": "robot", "content": "x"}]}, "robot"),
    "no content": ({"messages": [{"role": "user"}]}, "messages[0].content"),
    "an image": ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "text only"),
    "max_tokens negative": ({"messages": ASK, "max_tokens": -1}, "max_tokens must be at least 1, got -1"),
    "max_tokens zero": ({"messages": ASK, "max_tokens": 0}, "at least 1"),
    "max_tokens a string": ({"messages": ASK, "max_tokens": "5"}, "integer"),
    "max_tokens true": ({"messages": ASK, "max_tokens": True}, "integer"),
    "max_tokens too large": ({"messages": ASK, "max_tokens": 10**9}, "too large"),
    "prompt too long": ({"messages": [{"role": "user", "content": "a b " * 40_000}]}, "maximum context length"),
    "temperature negative": ({"messages": ASK, "temperature": -0.1}, "non-negative"),
    "temperature infinite": (b'{"messages": [{"role": "user", "content": "x"}], "temperature": Infinity}', "temperature"),
    "top_p zero": ({"messages": ASK, "top_p": 0}, "top_p"),
    "seed huge": ({"messages": ASK, "seed": 2**80}, "seed"),
    "model a number": ({"messages": ASK, "model": 5}, "model"),
    "stop a number": ({"messages": ASK, "stop": 5}, "stop"),
    "stream a string": ({"messages": ASK, "stream": "yes"}, "boolean"),
    "several answers": ({"messages": ASK, "n": 2}, "n=2 is not supported"),
    "tools": ({"messages": ASK, "tools": [{"type": "function"}]}, "tools"),
    "stream options alone": ({"messages": ASK, "stream_options": {}}, "stream=True"),
    "prompt_logprobs streamed": ({"messages": ASK, "stream": True, "prompt_logprobs": 1}, "not available"),
    "prompt_logprobs below -1": ({"messages": ASK, "prompt_logprobs": -2}, "prompt_logprobs"),
    "top_logprobs alone": ({"messages": ASK, "top_logprobs": 2}, "logprobs"),
    "both prompts": ({"messages": ASK, "continue_final_message": True}, "Cannot set both"),
    "inputs a list": ({"inputs": ["x"]}, "inputs"),
    "parameters a list": ({"inputs": "x", "parameters": []}, "parameters"),
    "max_new_tokens negative": ({"inputs": "x", "parameters": {"max_new_tokens": -4}}, "max_new_tokens"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_refused_with_its_reason_and_the_server_lives_on(qwen3, case: str) -> None:
    body, reason = WRONG[case]
    reply = qwen3.call("POST", "/invocations", body)
    assert reply.status == 400
    assert reply.error["type"] == "BadRequestError"
    assert reply.error["code"] == 400
    assert reason in reply.error["message"]
    assert qwen3.call("GET", "/ping").status == 200


def test_all_mistakes_of_a_request_are_named_at_once(qwen3) -> None:
    message = qwen3.call("POST", "/invocations", {"max_tokens": -1, "temperature": "hot", "n": 3}).error["message"]
    assert all(word in message for word in ("messages", "max_tokens", "temperature", "n=3"))


def test_an_unknown_model_route_or_method_is_not_found(qwen3) -> None:
    reply = qwen3.chat("Hello", model="nobody")
    assert (reply.status, reply.error["type"], reply.error["message"]) == (404, "NotFoundError", "The model `nobody` does not exist.")
    header = {"X-Amzn-SageMaker-Adapter-Identifier": "nobody"}
    assert qwen3.call("POST", "/invocations", {"messages": ASK}, header).status == 404
    assert qwen3.call("GET", "/nowhere").status == 404
    for method in ("DELETE", "PUT", "PATCH"):
        assert qwen3.call(method, "/ping").status == 404


@pytest.mark.parametrize(("headers", "status"), [({"Content-Length": "99999999999"}, 413), ({"Content-Length": "x"}, 413)])
def test_a_body_of_absurd_length_is_refused_unread(qwen3, headers: dict[str, str], status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", qwen3.port, timeout=10)
    connection.putrequest("POST", "/invocations")
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    with connection.getresponse() as response:
        assert response.status == status
    connection.close()


def test_one_connection_serves_many_requests_also_after_a_refusal(qwen3) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", qwen3.port, timeout=10)
    for body, status in (("{", 400), (json.dumps({"messages": ASK}), 200), ("[]", 400), (json.dumps({"messages": ASK}), 200)):
        connection.request("POST", "/invocations", body)
        with connection.getresponse() as response:
            assert response.status == status
            response.read()
    connection.close()


def test_requests_at_the_same_time_get_their_own_answers(qwen3) -> None:
    alone = {seed: qwen3.chat("Hello", temperature=4.0, seed=seed, max_tokens=12).text for seed in range(4)}
    together: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda s=seed: together.update({s: qwen3.chat("Hello", temperature=4.0, seed=s, max_tokens=12).text}))
        for seed in alone
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
