"""Data sets and models of ours in the lists of tasks and models that mteb looks names up in."""

from modeling_atri.configuration_atri import AtriConfig
from modeling_atri.sources import check_source

from .installed import MODEL_REGISTRY, TASK_REGISTRY
from .metadata import model_meta
from .tasks import retrieval_tasks


def register_tasks(source: str, name: str | None = None, split: str | None = None) -> list[str]:
    """Make the tasks of [`retrieval_tasks`] known to mteb, and return their names."""
    names = []
    for task in retrieval_tasks(source, name, split):
        TASK_REGISTRY[task.metadata.name] = type(task)
        names.append(task.metadata.name)
    return names


def register_model(name: str, revision: str | None = None) -> tuple[str, str | None]:
    """Make an ATRI model, a folder or a model on the Hub, known to mteb.

    A model that mteb knows, or of another kind, is left to mteb.

    Returns:
        The name and the revision that mteb must be asked for. An ATRI model is known by its name alone, because its
        `ModelMeta` has the revision.

    Raises:
        ValueError: There is no such folder, and the name is no Hub id.
        OSError: The folder or the Hub has no such model.
    """
    if name in MODEL_REGISTRY:
        return name, revision
    config, _ = AtriConfig.get_config_dict(check_source(name), revision=revision)
    if config.get("model_type") != AtriConfig.model_type:
        return name, revision
    meta = model_meta(name, revision)
    MODEL_REGISTRY[str(meta.name)] = meta
    return str(meta.name), None
