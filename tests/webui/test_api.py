"""The API route: what it answers, as FastAPI would call it."""

from __future__ import annotations

import base64
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from quantface_core.errors import ImageError, ModelError, UsageError


@pytest.fixture
def api(script: Any) -> Any:
    from quantface_webui import api

    return api


def encoded(picture: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> str:
    file = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(file, kind, **options)
    return base64.b64encode(file.getvalue()).decode()


def opened(answer: dict[str, Any]) -> Image.Image:
    """The PNG of an answer, as others read it."""
    return Image.open(io.BytesIO(base64.b64decode(answer["image"])))


def test_faces_are_the_librarys(
    api: Any, webui: SimpleNamespace, model: str, astronaut: np.ndarray, expected: np.ndarray
) -> None:
    answer = api.answer(
        {"image": f"data:image/png;base64,{encoded(astronaut)}", "model": model, "feather": 0.32, "strength": 1}
    )
    assert np.array_equal(opened(answer), expected)
    assert (len(answer["faces"]), answer["restored"], answer["unchanged"]) == (1, [0], 0)
    assert answer["info"] == {"QuantFace model": model, "QuantFace strength": "1.0"}
    assert webui.state.jobs == ["QuantFace", "end"]
    assert not webui.modules.call_queue.queue_lock.locked()


def test_transparency_and_turned_photos(api: Any, model: str, astronaut: np.ndarray) -> None:
    answer = api.answer({"image": encoded(np.dstack([astronaut, astronaut[..., 0]])), "model": model})
    assert np.array_equal(opened(answer).getchannel("A"), astronaut[..., 0])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    assert api.decode(encoded(Image.new("RGB", (40, 20)), "JPEG", exif=exif)).pixels.shape == (40, 20, 3)


def test_base64_may_be_in_lines(api: Any) -> None:
    """As `base64`, MIME and Python's `encodebytes` write it; the host's own API takes it too."""
    text = encoded(Image.new("RGB", (40, 20)))
    lines = "\r\n".join(text[start : start + 76] for start in range(0, len(text), 76)) + "\n"
    for given in (lines, f"data:image/png;base64,{lines}"):
        assert api.decode(given).pixels.shape == (20, 40, 3)


def test_sixteen_bits_are_scaled(api: Any) -> None:
    """Not cut off: most of their values lie above 255."""
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    answer = api.answer({"image": encoded(levels.astype(np.uint16) * 257)})
    assert np.array_equal(opened(answer).convert("L"), levels)


@pytest.mark.parametrize(("mode", "kind", "clear"), [("P", "PNG", 1), ("P", "GIF", 1), ("RGB", "PNG", (0, 0, 255))])
def test_a_clear_colour_stays_clear(api: Any, mode: str, kind: str, clear: Any) -> None:
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.paste(1, (0, 0, 8, 4))
    image = encoded(picture.convert(mode), kind, transparency=clear)
    alpha = np.array(opened(api.answer({"image": image})).convert("RGBA"))[..., 3]
    assert alpha[:4].max() == 0
    assert alpha[4:].min() == 255


def test_a_colour_profile_is_kept_while_it_describes_the_colours(api: Any) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for mode, kind, kept in (("RGB", "PNG", profile), ("CMYK", "JPEG", None), ("L", "PNG", None)):
        answer = api.answer({"image": encoded(Image.new(mode, (8, 8)), kind, icc_profile=profile)})
        assert opened(answer).info.get("icc_profile") == kept


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ([], UsageError, "send a JSON object"),
        ({}, ImageError, "send an image as base64"),
        ({"image": "***"}, ImageError, "not valid base64"),
        ({"image": base64.b64encode(b"text").decode()}, ImageError, "^image: damaged, or not a picture"),
        ({"image": 7}, ImageError, "send an image"),
    ],
)
def test_bad_input_is_named(api: Any, request_: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        api.answer(request_)
    assert "\n" not in str(raised.value)


def test_bad_settings_are_named(api: Any, webui: SimpleNamespace, astronaut: np.ndarray) -> None:
    image = encoded(astronaut)
    with pytest.raises(UsageError, match="unknown setting 'colour'"):
        api.answer({"image": image, "colour": "none"})
    for name in ("gone", "a" * 300 + ".safetensors", "GFPGAN/" + "a" * 300 + ".pth"):
        with pytest.raises(ModelError, match=f"no model '{name}'"):
            api.answer({"image": image, "model": name})
    assert not webui.modules.call_queue.queue_lock.locked()


def test_errors_become_a_status_and_one_line(api: Any, webui: SimpleNamespace) -> None:
    from quantface_core.errors import QuantFaceError
    from quantface_webui import host

    def answered(error: Exception) -> tuple[Any, int]:
        def work() -> Any:
            raise error

        return api._answered(work, lambda content, status: (content, status))

    assert answered(ImageError("a")) == ({"detail": "a"}, 400)
    assert answered(ModelError("b")) == ({"detail": "b"}, 404)
    assert answered(UsageError("c")) == ({"detail": "c"}, 422)
    assert answered(host.Interrupted()) == ({"detail": "interrupted"}, 409)
    assert not webui.reports
    assert answered(QuantFaceError("d")) == ({"detail": "d"}, 500)
    assert webui.reports == [("QuantFace: d", False)]


class TestRoutes:
    """With a real FastAPI, where there is one."""

    @pytest.fixture
    def client(self, api: Any, webui: SimpleNamespace) -> Any:
        fastapi = pytest.importorskip("fastapi", reason="needs fastapi")
        client = pytest.importorskip("fastapi.testclient", reason="needs fastapi's test client")

        def made(**options: Any) -> Any:
            vars(webui.shared.cmd_opts).update(options)
            app = fastapi.FastAPI()
            webui.callbacks["on_app_started"][0](None, app)
            return client.TestClient(app)

        return made

    def test_a_picture_there_and_back(self, client: Any, model: str, astronaut: np.ndarray) -> None:
        answer = client().post("/quantface/restore", json={"image": encoded(astronaut), "model": model})
        assert answer.status_code == 200
        assert answer.json()["restored"] == [0]

    def test_a_refusal_is_one_line(self, client: Any, astronaut: np.ndarray) -> None:
        answer = client().post("/quantface/restore", json={"image": encoded(astronaut), "strength": 3})
        assert (answer.status_code, answer.json()) == (
            422,
            {"detail": "strength must be auto, or between 0 and 1, got 3.0"},
        )

    @pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff"])
    def test_what_is_no_json_object_is_named(self, client: Any, body: bytes) -> None:
        answer = client().post("/quantface/restore", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("send a JSON object with image")

    def test_models_are_listed(self, client: Any) -> None:
        assert "quantface-mini" in client().get("/quantface/models").json()["models"]

    def test_without_api_there_is_none(self, client: Any) -> None:
        assert client(api=False).get("/quantface/models").status_code == 404

    def test_the_api_s_password_is_asked_for(self, client: Any) -> None:
        asked = client(api_auth="me:secret:with colon,you:other")
        assert asked.get("/quantface/models").status_code == 401
        assert asked.get("/quantface/models", auth=("me", "wrong")).status_code == 401
        assert asked.get("/quantface/models", auth=("me", "secret:with colon")).status_code == 200
