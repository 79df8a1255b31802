from typing import Any, ClassVar, Protocol

class Input:
    extra_dict: dict[str, object] | None
    def __init__(
        self,
        id: str,
        display_name: str | None = None,
        *,
        tooltip: str | None = None,
        optional: bool = False,
        lazy: bool | None = None,
        default: object = None,
        **options: object,
    ) -> None: ...

class Output:
    def __init__(self, id: str, display_name: str | None = None, tooltip: str | None = None) -> None: ...

class _SocketType(Protocol):
    Input: type[Input]
    Output: type[Output]

Image: _SocketType
Mask: _SocketType
Video: _SocketType
Combo: _SocketType
Int: _SocketType
Float: _SocketType
Boolean: _SocketType
String: _SocketType

def Custom(io_type: str) -> _SocketType: ...  # noqa: N802

class ComfyNode: ...

class Schema:
    __dataclass_fields__: ClassVar[dict[str, Any]]
    def __init__(
        self,
        node_id: str,
        display_name: str | None = None,
        category: str = "",
        description: str = "",
        inputs: list[Input] | None = None,
        outputs: list[Output] | None = None,
        is_output_node: bool = False,
        search_aliases: list[str] | None = None,
    ) -> None: ...

class NodeOutput:
    def __init__(self, *args: object, ui: object = None) -> None: ...
