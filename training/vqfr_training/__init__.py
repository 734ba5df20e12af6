"""Training of VQFR: recipes are functions, a stage is two functions, one loop serves both.

`python -m vqfr_training RECIPE --data DIR --out DIR` runs a recipe. The package imports torch,
OpenCV, NumPy, scikit-learn and `vqfr_media.network` only, so that it runs on a bare GPU machine.
"""
