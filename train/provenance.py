"""What a model was trained on, as its file holds it, and whether data to be scored overlap with it. Pure.

Hashes, not names: a model file can be handed on without telling which clips it saw, and stays small (6 bytes per group).
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

DIGEST_BYTES = 6  # by chance, one of 10,000 test groups equals one of 100,000 training groups in 1 of 280,000 cases


def trained_on(groups: Iterable[str], contents: Iterable[str] = ()) -> dict[str, str]:
    """What goes into `ModelCard.data["trained_on"]`.

    Args:
        groups: Of the rows trained on, as `group_key` spells them.
        contents: SHA-256 of the inputs trained on, in hexadecimal: finds copies under another name.

    Returns:
        groups and contents, each the base64 of sorted, cut hashes one after the other.
    """
    return {"groups": _packed(groups), "contents": _packed(contents)}


def overlap(card_data: Mapping[str, Any], names: Mapping[str, Iterable[str]]) -> list[str] | None:
    """Which of these were trained on.

    Args:
        card_data: `ModelCard.data`.
        names: "groups" and "contents" to what is to be scored, spelled as for `trained_on`.

    Returns:
        Those that were trained on, sorted; None if the model file does not say what it was trained on.
    """
    parts = trainings(card_data)
    if parts is None:
        return None
    found = set()
    for kind, these in names.items():
        seen = {digest for part in parts for digest in _unpacked(part.get(kind, ""))}
        found |= {name for name in these if _digest(name) in seen}
    return sorted(found)


def trainings(card_data: Mapping[str, Any]) -> list[Mapping[str, str]] | None:
    """What `trained_on` gave for each training behind a model: ensembles, and what was fine-tuned, have several.

    Returns:
        One or more; None if the model file does not say.
    """
    known = card_data.get("trained_on")
    if known is None:
        return None
    return [known] if isinstance(known, Mapping) else list(known)


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:DIGEST_BYTES]


def _packed(names: Iterable[str]) -> str:
    return base64.b64encode(b"".join(sorted({_digest(name) for name in names}))).decode()


def _unpacked(text: str) -> set[bytes]:
    data = base64.b64decode(text)
    return {data[i : i + DIGEST_BYTES] for i in range(0, len(data), DIGEST_BYTES)}


def fingerprint(names: Iterable[str]) -> str:
    """One hash for a set of inputs: the same set, the same hash."""
    return hashlib.sha256("\n".join(sorted(set(names))).encode(errors="surrogateescape")).hexdigest()
