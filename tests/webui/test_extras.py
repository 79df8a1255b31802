"""The Extras tab's accordion on a stand-in for the host."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quantface_core.errors import QuantFaceError


def picture(image: Image.Image) -> SimpleNamespace:
    """The host's PostprocessedImage."""
    return SimpleNamespace(image=image, info={}, extra_images=[])


def values(extras: Any, **changed: Any) -> dict[str, Any]:
    """What the page sends: every control's value at its start, but for those changed."""
    usual = {
        "enable": True, "model": "", "visibility": 1, "automatic": True, "strength": 1, "faces": "all",
        "positions": "0", "color": "wavelet", "min_size": 0, "min_confidence": 0.7, "feather": 0.32, "grain": 0.15,
        "seed": -1, "fidelity": 0.5,
    }  # fmt: skip
    assert list(usual) == list(extras.controls)
    return {**usual, **changed}


def test_the_accordion_is_found_and_offers_models(extras: Any, webui: SimpleNamespace) -> None:
    assert (extras.name, extras.order) == ("QuantFace", 2100)
    assert extras.controls["enable"].options["label"] == "QuantFace"
    assert extras.controls["model"].options["value"] == "quantface-mini-w4a4 (bundled)"
    assert "osdface-w4a4 (build)" in extras.controls["model"].args[0]
    assert not webui.reports


def test_faces_are_the_librarys(extras: Any, model: str, astronaut: np.ndarray, expected: np.ndarray) -> None:
    pp = picture(Image.fromarray(astronaut))
    extras.process(pp, **values(extras, model=model, automatic=False))
    assert np.array_equal(np.array(pp.image), expected)
    assert pp.info == {
        "QuantFace model": model, "QuantFace strength": "1.0", "QuantFace restored": "1 of 1 faces"
    }  # fmt: skip


def test_a_hidden_control_has_no_effect_and_is_not_told(
    extras: Any, model: str, astronaut: np.ndarray, expected: np.ndarray
) -> None:
    pp = picture(Image.fromarray(astronaut))
    extras.process(pp, **values(extras, model=model, automatic=False, fidelity=0.9))
    assert np.array_equal(np.array(pp.image), expected)
    assert "QuantFace fidelity" not in pp.info


def test_a_sharp_face_is_told_to_be_left_as_before(extras: Any, model: str, astronaut: np.ndarray) -> None:
    pp = picture(Image.fromarray(astronaut))
    extras.process(pp, **values(extras, model=model))
    assert np.array_equal(np.array(pp.image), astronaut)
    assert pp.info["QuantFace restored"] == "0 of 1 faces; 1 left as before (no gain expected)"
    extras.process(pp, **values(extras, model=model, automatic=False, strength=0))
    assert pp.info["QuantFace restored"] == "0 of 1 faces; 1 left as before"


def test_visibility_and_transparency(extras: Any, model: str, astronaut: np.ndarray, expected: np.ndarray) -> None:
    image = Image.fromarray(astronaut).convert("RGBA")
    image.putalpha(Image.fromarray(astronaut[..., 0]))
    pp = picture(image)
    extras.process(pp, **values(extras, model=model, visibility=0.5, automatic=False))
    seen = np.array(pp.image)
    assert np.array_equal(seen[..., 3], astronaut[..., 0])
    assert abs(seen[..., :3] - (astronaut / 2.0 + expected / 2.0)).max() <= 0.5
    assert pp.info["QuantFace visibility"] == "0.5"


def test_a_palette_s_transparency_stays(extras: Any, model: str, astronaut: np.ndarray) -> None:
    image = Image.fromarray(astronaut).quantize(64)
    image.info["transparency"] = 3
    clear = np.array(image.convert("RGBA"))[..., 3]
    pp = picture(image)
    extras.process(pp, **values(extras, model=model, automatic=False))
    assert pp.info["QuantFace restored"] == "1 of 1 faces"
    assert np.array_equal(np.array(pp.image)[..., 3], clear)
    pp.image.save(io.BytesIO(), "PNG")


def test_a_palette_picture_without_a_face_stays(extras: Any, model: str) -> None:
    image = Image.new("P", (64, 64))
    image.info["transparency"] = 0
    pp = picture(image)
    extras.process(pp, **values(extras, model=model))
    assert pp.image is image
    assert pp.info["QuantFace restored"] == "no face"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"min_size": 1024}, "no face; 1 smaller than the minimum size"),
        ({"min_confidence": 1}, "no face; 1 below the minimum confidence"),
        ({"faces": "positions", "positions": "7"}, "0 of 1 faces (none has such a position)"),
    ],
)
def test_why_no_face_is_restored(
    extras: Any, model: str, astronaut: np.ndarray, changed: dict[str, Any], why: str
) -> None:
    pp = picture(Image.fromarray(astronaut))
    extras.process(pp, **values(extras, model=model, **changed))
    assert pp.info["QuantFace restored"] == why
    assert not set(why) & set(",:")  # which the host would put in quotes
    assert np.array_equal(np.array(pp.image), astronaut)


@pytest.mark.parametrize("off", [{"enable": None}, {"enable": False}, {"enable": True, "visibility": 0}])
def test_off_is_off(extras: Any, astronaut: np.ndarray, off: dict[str, Any]) -> None:
    """The host's API gives None for every control."""
    image = Image.fromarray(astronaut)
    pp = picture(image)
    nothing = dict.fromkeys(extras.controls) if off["enable"] is None else values(extras, **off)
    extras.process(pp, **{**nothing, **off})
    assert pp.image is image
    assert pp.info == {}


def test_no_face_needs_no_model(extras: Any, webui: SimpleNamespace, model: str) -> None:
    (webui.models / model).unlink()
    (webui.models / model).write_bytes(b"not looked at")
    image = Image.new("RGB", (64, 64))
    pp = picture(image)
    extras.process(pp, **values(extras, model=model))
    assert pp.image is image
    assert pp.info["QuantFace restored"] == "no face"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "nothing.safetensors"}, "no model 'nothing.safetensors'"),
        ({"model": "../tiny.safetensors"}, "no model '../tiny.safetensors'"),
        ({"faces": "positions", "positions": "first"}, "faces must be all, largest or positions; "),
        ({"model": "broken.safetensors"}, "broken.safetensors: damaged"),
        ({"model": "osdface-w4a4 (local)"}, "osdface-w4a4: damaged"),
    ],
)
def test_what_goes_wrong_is_told_and_the_picture_stays(
    extras: Any, webui: SimpleNamespace, model: str, astronaut: np.ndarray, changed: dict[str, Any], message: str
) -> None:
    for name in ("broken.safetensors", "osdface-w4a4.safetensors"):
        (webui.models / name).write_bytes(b"broken")
    (webui.models.parent / "tiny.safetensors").symlink_to(webui.models / model)
    image = Image.fromarray(astronaut)
    pp = picture(image)
    extras.process(pp, **values(extras, **{"model": model, **changed}))
    assert pp.image is image
    assert pp.info["QuantFace error"].startswith(message)  # no path of this machine: the image keeps it
    [(report, traceback)] = webui.reports
    assert report == f"QuantFace: {pp.info['QuantFace error']}"
    assert not traceback


def test_a_picture_that_cannot_be_read_does_not_stop_the_rest(extras: Any, webui: SimpleNamespace, model: str) -> None:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    pp = picture(Image.open(io.BytesIO(file.getvalue()[:2000])))
    extras.process(pp, **values(extras, model=model))
    assert webui.state.skipped  # the host then does not try to save it
    [(report, _)] = webui.reports
    assert "damaged image is skipped" in report


@pytest.mark.parametrize("button", ["interrupted", "skipped"])
def test_interrupt_ends_a_face_and_writes_nothing(
    extras: Any, webui: SimpleNamespace, model: str, astronaut: np.ndarray, button: str
) -> None:
    webui.state.on_progress = lambda: setattr(webui.state, button, True)
    image = Image.fromarray(astronaut)
    pp = picture(image)
    extras.process(pp, **values(extras, model=model))
    assert pp.image is image
    assert pp.info == {}
    assert webui.state.skipped  # the host then saves nothing for this picture
    assert not webui.reports


def test_stopping_after_this_picture_lets_it_be_finished(
    extras: Any, webui: SimpleNamespace, model: str, astronaut: np.ndarray
) -> None:
    webui.state.on_progress = lambda: setattr(webui.state, "stopping_generation", True)
    pp = picture(Image.fromarray(astronaut))
    extras.process(pp, **values(extras, model=model, automatic=False))
    assert pp.info["QuantFace restored"] == "1 of 1 faces"


def test_the_bar_counts_faces_and_is_left_as_it_was(
    extras: Any, webui: SimpleNamespace, model: str, astronaut: np.ndarray
) -> None:
    webui.state.textinfo = "photo.png"
    webui.state.told.clear()
    seen = []
    webui.state.on_progress = lambda: seen.append(webui.state.job_no)
    extras.process(picture(Image.fromarray(astronaut)), **values(extras, model=model))
    assert webui.state.told[:2] == [(0, 1, "QuantFace: face 1 of 1"), (1, 1, "QuantFace: face 1 of 1")]
    assert seen[0] == 0  # the host has counted this picture as done
    state = webui.state
    assert (state.job_no, state.sampling_step, state.sampling_steps, state.textinfo) == (1, 0, 0, "photo.png")


def test_two_pictures_at_once_wait_for_each_other(
    script: Any, webui: SimpleNamespace, model: str, astronaut: np.ndarray, expected: np.ndarray
) -> None:
    """Not every caller waits in the host's queue: OpenCV's detector fails when it is called twice at once."""
    from concurrent.futures import ThreadPoolExecutor

    from quantface_webui.restore import restore
    from quantface_webui.settings import Settings

    with ThreadPoolExecutor(3) as threads:
        made = list(threads.map(lambda _: restore(astronaut, Settings(model=model, strength=1.0)).pixels, range(6)))
    assert all(np.array_equal(pixels, expected) for pixels in made)


def test_a_page_that_cannot_have_the_controls_is_left_whole(
    script: Any, webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(webui.gradio, "Slider")
    assert script.QuantFaceExtras().ui() == {}
    assert "no controls in the Extras tab" in webui.reports[0][0]


def test_a_model_that_is_not_here_is_made_while_the_bar_moves(
    extras: Any, webui: SimpleNamespace, model: str, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantface_core.pipelines.callbacks import PipelineCallbacks, StageProgress

    asked = []

    def fetch_in_child(name: str, callbacks: PipelineCallbacks) -> Any:
        asked.append(name)
        callbacks.check_cancelled()
        callbacks.progress(StageProgress("quantize", 40, 100))
        return webui.models / model

    monkeypatch.setattr("quantface_core.pipelines.child.fetch_in_child", fetch_in_child)
    pp = picture(Image.fromarray(astronaut))
    extras.process(pp, **values(extras, model="osdface-w4a4 (build)", automatic=False))
    assert asked == ["osdface-w4a4"]
    assert webui.state.told[0] == (40, 100, "QuantFace: osdface-w4a4: quantize")
    assert pp.info["QuantFace restored"] == "1 of 1 faces"
    webui.state.stopping_generation = True
    extras.process(picture(Image.fromarray(astronaut)), **values(extras, model="osdface-w4a4 (build)"))
    assert webui.state.skipped


class TestMemory:
    @pytest.fixture
    def device(self, webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Any:
        """A stand-in for a GPU, whose memory is what a test says."""
        import torch

        monkeypatch.setattr(webui.modules.devices, "get_device_for", lambda task: torch.device("meta"))
        return torch.device("meta")

    @pytest.mark.parametrize(("fails", "where"), [(1, ["meta", "meta"]), (2, ["meta", "meta", "cpu"])])
    def test_the_diffusion_model_makes_room_then_the_processor(
        self, script: Any, webui: SimpleNamespace, model: str, device: Any, fails: int, where: list[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        from contextlib import contextmanager

        import torch

        from quantface_webui import model_cache, restore

        asked = []

        @contextmanager
        def restorer(path: Any, device: Any, faces: int) -> Any:
            asked.append(device.type)
            if len(asked) <= fails:
                raise QuantFaceError("not enough memory") from torch.cuda.OutOfMemoryError("no room")
            yield "the model"

        monkeypatch.setattr(model_cache, "restorer", restorer)
        webui.model_data.sd_model = object()
        assert restore._with_memory(webui.models / model, 1, lambda given: given) == "the model"
        assert asked == where
        assert webui.moves == ["away", "back"]
        assert len(webui.reports) == fails - 1

    def test_what_is_no_lack_of_memory_is_raised(
        self, script: Any, webui: SimpleNamespace, model: str, device: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from quantface_webui import model_cache, restore

        monkeypatch.setattr(model_cache, "restorer", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            restore._with_memory(webui.models / model, 1, lambda given: given)
        assert webui.moves == []


def test_room_is_asked_for_the_faces_and_for_weights_that_are_not_there(
    script: Any, webui: SimpleNamespace, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from quantface_webui import host, model_cache

    asked = list[int]()
    monkeypatch.setattr(host, "make_room", lambda needed, _: asked.append(needed))
    monkeypatch.setattr(model_cache, "_dtype", lambda _: None)
    path, meta = webui.models / model, torch.device("meta")
    for faces in (1, 2, 100):
        with model_cache.restorer(path, meta, faces) as made:
            pass
    one = made.working_memory
    assert asked == [one + path.stat().st_size, 2 * one, 4 * one]  # four of its size are as fast as a hundred
    model_cache.drop()


def test_a_model_that_moved_in_part_is_loaded_anew(
    script: Any, webui: SimpleNamespace, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from quantface_webui import model_cache

    path = webui.models / model
    with model_cache.restorer(path, torch.device("cpu")) as first:
        pass

    def runs_out(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("no room")

    monkeypatch.setattr(first.vae, "_apply", runs_out)
    monkeypatch.setattr(model_cache, "_dtype", lambda _: None)  # every device's is the same model
    with pytest.raises(torch.cuda.OutOfMemoryError), model_cache.restorer(path, torch.device("meta")):
        pass
    with model_cache.restorer(path, torch.device("cpu")) as other:
        assert {p.device.type for p in other.parameters()} == {"cpu"}
    model_cache.drop()


def test_a_model_stays_until_its_file_changes(script: Any, webui: SimpleNamespace, model: str, tiny: Any) -> None:
    import torch

    from quantface_core.io.checkpoint import save_restorer
    from quantface_webui import model_cache

    path, cpu = webui.models / model, torch.device("cpu")
    with model_cache.restorer(path, cpu) as first, model_cache.restorer(path, cpu) as again:
        assert first is again
        assert not webui.model_data.lock.locked()
    path.unlink()
    save_restorer(tiny, path, torch.float32)
    with model_cache.restorer(path, cpu) as other:
        assert other is not first
    model_cache.drop()
    assert model_cache._cached is None


def test_a_model_of_a_gpus_dtype_is_loaded_anew_for_the_processor(
    script: Any, webui: SimpleNamespace, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from quantface_webui import model_cache

    path, cpu = webui.models / model, torch.device("cpu")
    monkeypatch.setattr(model_cache, "_dtype", lambda _: torch.bfloat16)
    with model_cache.restorer(path, cpu) as first:
        assert first.dtype == torch.bfloat16
    monkeypatch.setattr(model_cache, "_dtype", lambda _: torch.float32)
    with model_cache.restorer(path, cpu) as second:
        assert second.dtype == torch.float32
    model_cache.drop()


@pytest.fixture
def enlarged(astronaut: np.ndarray) -> np.ndarray:
    """As an upscaling network leaves the photo: twice as large, flat, with a little other colours."""
    import cv2

    return cv2.resize(cv2.medianBlur(astronaut, 7), (1024, 1024), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("other", ["", "GFPGAN visibility"])
def test_an_enlarged_images_faces_are_restored_from_the_image_before(
    extras: Any, model: str, tiny: Any, astronaut: np.ndarray, enlarged: np.ndarray, detector: Any, other: str
) -> None:
    """Unless another restorer has been at them."""
    from quantface_core import RestoreOptions, restore_photo

    pp = picture(Image.fromarray(astronaut))
    extras.process_firstpass(pp, **values(extras))
    pp.image, pp.info = Image.fromarray(enlarged), dict.fromkeys([other] if other else [], 1)
    extras.process(pp, **values(extras, model=model, automatic=False))
    photo, background = (enlarged, None) if other else (astronaut, enlarged)
    exact = restore_photo(photo, tiny, detector(photo), RestoreOptions(strength=1.0), background=background).pixels
    assert np.array_equal(np.array(pp.image), exact)
    assert not np.array_equal(exact, enlarged)


def test_an_enlarged_image_is_blended_with_its_faces_at_its_own_size(
    extras: Any, model: str, astronaut: np.ndarray, enlarged: np.ndarray
) -> None:
    made = {}
    for visibility in (1, 0.5):
        pp = picture(Image.fromarray(astronaut))
        extras.process_firstpass(pp, **values(extras))
        pp.image, pp.info = Image.fromarray(enlarged), {}
        extras.process(pp, **values(extras, model=model, automatic=False, visibility=visibility))
        made[visibility] = np.array(pp.image).astype(float)
    assert not np.array_equal(made[1], enlarged)
    assert np.abs(made[0.5] - (made[1] + enlarged) / 2).max() <= 0.5


def test_an_image_that_is_not_the_one_before_enlarged_counts_alone(
    extras: Any, model: str, astronaut: np.ndarray, expected: np.ndarray
) -> None:
    shown = Image.fromarray(astronaut)
    for before in (shown, shown.resize((300, 200)), shown.resize((128, 128)).rotate(90), None):
        pp = picture(shown)
        if before is not None:
            pp.quantface_original = before
        extras.process(pp, **values(extras, model=model, automatic=False))
        assert np.array_equal(np.array(pp.image), expected)
