"""The packages of the wheel; everything else stands in pyproject.toml.

The scripts in pipelines/ are installed as `syncdiff_pipelines`, since `pipelines` would be anybody's name.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["syncdiff_*", "syncdiff_*.*"]), "syncdiff_pipelines"],
    package_dir={"syncdiff_pipelines": "pipelines"},
)
