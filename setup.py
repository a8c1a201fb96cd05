"""The packages of the wheel: pyproject.toml cannot say that configs/ is installed inside of kdx."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["kdx*", "expand*", "quantize*", "teachers*"]), "kdx.configs"],
    package_dir={"kdx.configs": "configs"},
    package_data={
        "kdx.configs": ["**/*.yaml", "schema/*.json", "**/README.md"],
        "kdx.report": ["templates/*"],
    },
)
