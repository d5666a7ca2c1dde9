from setuptools import setup

PACKAGE_DIR = {
    "modeling_atri": "modeling_atri",
    "modeling_atri.trainer": "trainer",
    "modeling_atri.trainer.data": "trainer/data",
    "modeling_atri.hub_cards": "hub_cards",
    "modeling_atri.cli": "cli",
}
setup(name="modeling_atri", version="0.1.0.dev0", package_dir=PACKAGE_DIR, packages=list(PACKAGE_DIR), python_requires=">=3.10")
