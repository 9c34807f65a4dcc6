import json
from pathlib import Path

import numpy as np
import pytest

from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import ProtocolError
from tests.wire.make_goldens import mask_of, masks, messages

HERE = Path(__file__).parent
CASES = json.loads((HERE / "masks.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])
def test_mask_golden(case):
    data = bytes.fromhex(case["hex"])
    if case.get("error"):
        with pytest.raises(ProtocolError):
            RunLengths.from_bytes(data)
        return
    runs = RunLengths.from_bytes(data)
    assert (runs.height, runs.width) == (case["height"], case["width"])
    assert runs.counts.tolist() == case["runs"]
    assert RunLengths(case["height"], case["width"], np.array(case["runs"])).to_bytes() == data
    if case["rows"]:
        assert (runs.to_mask() == mask_of(case["rows"])).all()


@pytest.mark.parametrize(("name", "make"), [("masks", masks), ("messages", messages)])
def test_goldens_are_what_the_code_makes(name, make):
    assert json.loads((HERE / f"{name}.json").read_text()) == json.loads(json.dumps(make()))
