"""The API route: what it answers, as FastAPI would call it."""

from __future__ import annotations

import base64
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quantface_core.errors import ImageError, ModelError, UsageError


@pytest.fixture
def api(script: Any) -> Any:
    from quantface_webui import api

    return api


def encoded(pixels: np.ndarray, kind: str = "PNG") -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def test_faces_are_the_librarys(
    api: Any, webui: SimpleNamespace, model: str, astronaut: np.ndarray, expected: np.ndarray
) -> None:
    answer = api.answer({"image": f"data:image/png;base64,{encoded(astronaut)}", "model": model, "feather": 0.32})
    assert np.array_equal(np.array(api.decode(answer["image"])), expected)
    assert (len(answer["faces"]), answer["restored"]) == (1, [0])
    assert answer["info"] == {"QuantFace model": model}
    assert webui.state.jobs == ["QuantFace", "end"]
    assert not webui.modules.call_queue.queue_lock.locked()


def test_transparency_and_turned_photos(api: Any, model: str, astronaut: np.ndarray) -> None:
    answer = api.answer({"image": encoded(np.dstack([astronaut, astronaut[..., 0]])), "model": model})
    assert np.array_equal(np.array(api.decode(answer["image"]))[..., 3], astronaut[..., 0])
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (40, 20)).save(file, "JPEG", exif=exif)
    assert api.decode(base64.b64encode(file.getvalue()).decode()).size == (20, 40)


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ([], UsageError, "give a JSON object"),
        ({}, ImageError, "give a picture as base64"),
        ({"image": "***"}, ImageError, "no picture"),
        ({"image": base64.b64encode(b"text").decode()}, ImageError, "no picture"),
        ({"image": 7}, ImageError, "give a picture"),
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
    with pytest.raises(ModelError, match="no model 'gone'"):
        api.answer({"image": image, "model": "gone"})
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
            {"detail": "strength is auto, or between 0 and 1, got 3.0"},
        )

    @pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff"])
    def test_what_is_no_json_object_is_named(self, client: Any, body: bytes) -> None:
        answer = client().post("/quantface/restore", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("give a JSON object with image")

    def test_models_are_listed(self, client: Any) -> None:
        assert "quantface-mini" in client().get("/quantface/models").json()["models"]

    def test_without_api_there_is_none(self, client: Any) -> None:
        assert client(api=False).get("/quantface/models").status_code == 404

    def test_the_api_s_password_is_asked_for(self, client: Any) -> None:
        asked = client(api_auth="me:secret:with colon,you:other")
        assert asked.get("/quantface/models").status_code == 401
        assert asked.get("/quantface/models", auth=("me", "wrong")).status_code == 401
        assert asked.get("/quantface/models", auth=("me", "secret:with colon")).status_code == 200
