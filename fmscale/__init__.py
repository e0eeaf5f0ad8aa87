"""fmscale: scaling-law experiments for GPT and CLIP.

Importing this package loads neither torch nor Hydra: a sweep's parent process stays light.
"""

__version__ = "0.2.0.dev0"
