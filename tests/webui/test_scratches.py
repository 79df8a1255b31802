"""The Extras tab's Repair Scratches: before all else, whatever the host."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.scratched import as_print, error, scratched
from tests.webui.test_api import encoded, opened
from tests.webui.test_extras import picture, values


@pytest.fixture
def repairs(script: Any) -> Any:
    """The accordion's script, with its control made."""
    made = script.QuantFaceScratches()
    made.controls = made.ui()
    return made


@pytest.fixture(scope="module")
def print_(astronaut: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A damaged print, what it shows, and where the damage is."""
    whole = as_print(astronaut)
    bad, where = scratched(whole)
    return bad, whole, where


def test_it_comes_before_upscale(repairs: Any, extras: Any, webui: SimpleNamespace) -> None:
    assert repairs.order < 1000 < extras.order
    assert list(repairs.controls) == ["enable"]
    assert repairs.controls["enable"].options["label"] == "Repair Scratches"
    assert not webui.reports


def test_scratches_are_repaired_once(repairs: Any, print_: Any) -> None:
    bad, whole, where = print_
    image = Image.fromarray(bad)
    image.putalpha(Image.fromarray(bad[..., 0]))
    pp = picture(image)
    repairs.process_firstpass(pp, True)
    made = np.array(pp.image)
    assert error(made[..., :3], whole, where) < 0.3 * error(bad, whole, where)
    assert np.array_equal(made[..., 3], bad[..., 0])
    assert pp.info["QuantFace scratches"].endswith("% repaired")
    first = pp.image
    repairs.process(pp, True)
    assert pp.image is first


def test_faces_are_restored_from_the_repaired_image(repairs: Any, extras: Any, print_: Any) -> None:
    """A host that has a first pass notes the image there, before it is enlarged."""
    pp = picture(Image.fromarray(print_[0]))
    for script, given in ((repairs, {"enable": True}), (extras, values(extras))):
        script.process_firstpass(pp, **given)
    assert pp.quantface_original is pp.image
    assert not np.array_equal(np.array(pp.image), print_[0])


def test_off_or_without_scratches_an_image_stays(repairs: Any, print_: Any) -> None:
    for image, enable in ((Image.fromarray(print_[0]), False), (Image.new("RGB", (64, 64), "gray"), True)):
        pp = picture(image)
        repairs.process(pp, enable)
        assert pp.image is image
    assert pp.info == {"QuantFace scratches": "none found"}
    repairs.process(picture(image), None)  # the host's API, which knows no control


def test_interrupt_skips_the_image(repairs: Any, webui: SimpleNamespace, print_: Any) -> None:
    pp = picture(image := Image.fromarray(print_[0]))
    webui.state.interrupted = True
    repairs.process(pp, True)
    assert webui.state.skipped
    assert pp.image is image


def test_the_api_repairs_on_request(script: Any, model: str, print_: Any) -> None:
    from quantface_webui import api

    bad, whole, where = print_
    answers = [
        api.answer({"image": encoded(bad), "model": model, "strength": 0, "scratches": on}) for on in (0 > 1, True)
    ]
    untouched, repaired = (np.array(opened(answer).convert("RGB")) for answer in answers)
    assert np.array_equal(untouched, bad)
    assert error(repaired, whole, where) < 0.3 * error(bad, whole, where)
    with pytest.raises(Exception, match="scratches must be true or false, got 'yes'"):
        api.answer({"image": encoded(bad), "scratches": "yes"})
