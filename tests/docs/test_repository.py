"""The files around the code agree with it: versions, workflows, hooks."""

import re
from pathlib import Path

import pytest
import yaml

import modeling_atri


ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_one_version_everywhere():
    citation = yaml.safe_load(read("CITATION.cff"))
    releases = re.findall(r"^## \[(\d[^\]]*)\] - ([\d-]+)$", read("CHANGELOG.md"), re.MULTILINE)
    assert releases[0] == (citation["version"], str(citation["date-released"]))
    assert modeling_atri.__version__ == citation["version"]


def test_the_hook_has_the_version_of_ruff_that_the_checks_have():
    pinned = re.search(r"^ruff==(\S+)$", read("requirements/constraints.txt"), re.MULTILINE)[1]
    hooks = {repo["repo"]: repo["rev"] for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]}
    assert hooks["https://github.com/astral-sh/ruff-pre-commit"] == f"v{pinned}"


def test_the_workflow_tests_every_python_that_the_package_declares():
    declared = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', read("setup.py"))
    matrix = yaml.safe_load(read(".github/workflows/tests.yml"))["jobs"]["tests"]["strategy"]["matrix"]
    assert set(declared) <= set(matrix["python"])
    assert min(matrix["python"]) == "3.11"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_make_targets_that_exist(path):
    steps = [step for job in yaml.safe_load(path.read_text("utf-8"))["jobs"].values() for step in job["steps"]]
    targets = {target for step in steps for target in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))}
    assert targets or path.stem not in ("tests", "quality", "docs")
    assert [target for target in targets if not re.search(rf"^{target}:", read("Makefile"), re.MULTILINE)] == []


def test_issue_forms_are_yaml_with_a_name():
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert forms
    assert all({"name", "description", "body"} <= yaml.safe_load(form.read_text("utf-8")).keys() for form in forms)
