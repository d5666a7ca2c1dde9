"""The page to search an index in a browser, with Gradio."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .blocks import build_page as build_page
    from .server import page_app as page_app
    from .server import serve as serve
    from .space import publish_space as publish_space

__getattr__, __all__ = lazy_names(__name__, __file__)
