"""What a run's result depends on beside its configuration, as digests."""

import hashlib
import json
from collections.abc import Mapping

from torch import Tensor

from metacog.model.base import Base
from metacog.model.bundle import MetacogModel
from metacog.text.tokenizer import rules_of


def world_of(model: MetacogModel | None) -> dict[str, str]:
    """Return the digests of the base, the tokenizer and the layer that a run starts from."""
    if model is None:
        return {}
    found = {"base": model.base.digest, "tokenizer": _of_tokenizer(model.base)}
    if model.reader is not None:
        digest = hashlib.sha256(model.reader.calibration.model_dump_json().encode())
        _add(digest, model.reader.layer.state_dict())
        if model.gate is not None:
            _add(digest, model.gate.state_dict())
        found["layer"] = digest.hexdigest()
    return found


def digest_of_world(world: Mapping[str, str]) -> str:
    """Return one sha256 for all digests of a world."""
    return hashlib.sha256(json.dumps(dict(world), sort_keys=True).encode()).hexdigest()


def _of_tokenizer(base: Base) -> str:
    known = {"rules": rules_of(base.tokenizer), "template": base.tokenizer.chat_template}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _add(digest: "hashlib._Hash", tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().cpu().numpy().tobytes())
