"""The recipe of the demo model: its text, tokenizer, training and evaluation.

`python -m mlx_integrations.demo.recipe` runs all of it; `--help` lists the steps. Only training needs torch.
"""
