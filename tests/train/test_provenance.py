from dfpipe.preprocess.groups import group_key
from dfpipe.train.provenance import DIGEST_BYTES, fingerprint, overlap, trained_on


def test_what_was_trained_on_is_found_again() -> None:
    groups = [group_key("dfdc", f"clip{i}") for i in range(1000)]
    data = {"trained_on": trained_on(groups, ["aa" * 32])}
    assert overlap(data, {"groups": ["dfdc: clip7", "dfdc: other", "ff: clip7"]}) == ["dfdc: clip7"]
    assert overlap(data, {"groups": [], "contents": ["aa" * 32, "bb" * 32]}) == ["aa" * 32]
    assert len(data["trained_on"]["groups"]) == 1000 * DIGEST_BYTES * 4 // 3


def test_an_ensemble_knows_what_any_member_saw() -> None:
    data = {"trained_on": [trained_on(["a: 1"]), trained_on(["a: 2"])]}
    assert overlap(data, {"groups": ["a: 1", "a: 2", "a: 3"]}) == ["a: 1", "a: 2"]


def test_a_file_that_does_not_say() -> None:
    assert overlap({}, {"groups": ["a: 1"]}) is None
    assert overlap({"trained_on": trained_on([])}, {"groups": ["a: 1"]}) == []


def test_names_that_are_no_utf8() -> None:
    name = "caf\udce9"
    assert overlap({"trained_on": trained_on([name])}, {"groups": [name]}) == [name]


def test_fingerprint_is_of_the_set() -> None:
    assert fingerprint(["b", "a", "a"]) == fingerprint(["a", "b"]) != fingerprint(["a", "c"])
