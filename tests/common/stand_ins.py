"""Makes transformers' test files importable, from where `fetch.py` unpacked them.

The archive has the common tests alone, without the folders beside them. What these files import from there is put in
their place: mixins whose tests are not in the archive, some configuration values, and a table of files that
transformers' CI keeps at hand.
"""

import sys
from pathlib import Path
from types import ModuleType

from tests.common.fetch import PACKAGE


class ExportTesterMixin:
    """`ModelTesterMixin` inherits it."""


class GenerationTesterMixin:
    """A test looks whether ours inherits it, which it must not."""


# A value for each argument that every configuration takes, none of them the default.
CONFIG_VALUES = {
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "architectures": ["AtriModel"],
    "id2label": {0: "dog"},
    "label2id": {"dog": 0},
    "problem_type": "regression",
}


def make_importable(folder: Path) -> None:
    """Put the package of transformers' test files, and what it lacks, where `import` finds them."""
    sys.path.append(str(folder))
    for name in ("exporters", "generation", "utils"):
        _put_in_place(f"{PACKAGE}.{name}")
    _put_in_place(f"{PACKAGE}.exporters.test_export", ExportTesterMixin=ExportTesterMixin)
    _put_in_place(f"{PACKAGE}.generation.test_utils", GenerationTesterMixin=GenerationTesterMixin)
    _put_in_place(f"{PACKAGE}.utils.test_configuration_utils", config_common_kwargs=CONFIG_VALUES)
    _put_in_place("fetch_hub_objects_for_ci", url_to_local_path=lambda url: url)


def _put_in_place(name: str, **contents: object) -> None:
    module = ModuleType(name)
    vars(module).update(contents)
    sys.modules[name] = module
