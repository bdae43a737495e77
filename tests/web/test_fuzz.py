"""A fuzzer that reads the OpenAPI file: whatever is sent, the answer is one that the file promises."""

from pathlib import Path
from typing import Any

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="needs the extra dev")
hypothesis = pytest.importorskip("hypothesis", reason="needs the extra dev")

EXAMPLES = 12  # for each operation; always the same ones
# Operation -> what it must have answered at least once, or nothing was tried.
OPERATIONS = {
    "POST /v1/jobs": {202},
    "GET /v1/jobs": {200},
    "GET /v1/jobs/{job_id}": {200, 404},
    "DELETE /v1/jobs/{job_id}": {404},
    "GET /v1/jobs/{job_id}/report": {200, 404},
    "GET /v1/jobs/{job_id}/overlay": {404},
    "GET /v1/jobs/{job_id}/media": {200, 404},
    "GET /v1/model": {200},
    "GET /v1/limits": {200},
    "GET /healthz": {200},
    "GET /readyz": {200},
    "GET /metrics": {200},
}


@pytest.fixture(scope="module")
def described(server: Any) -> Any:
    """The API as its file describes it."""
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


@pytest.fixture(scope="module")
def known(server: Any, faceless_clip: Path) -> str:
    """The id of a job that is done."""
    return str(server.ended(server.upload("ramp.mp4", faceless_clip.read_bytes())["id"])["id"])


def test_all_operations_are_tried(described: Any) -> None:
    assert {found.ok().label for found in described.get_all_operations()} == set(OPERATIONS)


CASES = [(label, schemathesis.GenerationMode.POSITIVE, statuses) for label, statuses in OPERATIONS.items()] + [
    ("GET /v1/jobs", schemathesis.GenerationMode.NEGATIVE, {422}),  # requests that the file forbids
    ("GET /v1/jobs/{job_id}/report", schemathesis.GenerationMode.NEGATIVE, {422}),
]


@pytest.mark.parametrize(("label", "mode", "expected"), CASES)
def test_every_answer_is_one_that_was_promised(
    described: Any, known: str, label: str, mode: Any, expected: set[int]
) -> None:
    (operation,) = (one for found in described.get_all_operations() if (one := found.ok()).label == label)
    statuses = set()

    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode), there=hypothesis.strategies.booleans())
    def check(case: Any, there: bool) -> None:
        if there and case.method == "GET" and case.path_parameters:
            case.path_parameters = {"job_id": known}
        answer = case.call()
        case.validate_response(answer)
        statuses.add(answer.status_code)

    check()
    assert statuses >= expected
