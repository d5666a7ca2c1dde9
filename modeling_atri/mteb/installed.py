"""The names of mteb that the tasks, the model's metadata and the command use; an error if mteb is not installed."""

try:
    from mteb import TaskMetadata
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
    from mteb.get_tasks import _TASKS_REGISTRY as TASK_REGISTRY  # mteb has no other way to add a task
    from mteb.models import ModelMeta
    from mteb.models.model_implementations import MODEL_REGISTRY
except ImportError as error:
    raise ImportError(f"`modeling_atri.mteb` needs mteb: pip install 'modeling_atri[mteb]' ({error})") from error


__all__ = ["MODEL_REGISTRY", "TASK_REGISTRY", "AbsTaskRetrieval", "ModelMeta", "RetrievalSplitData", "TaskMetadata"]
