"""The small chat model trained by this project, its recipe, and the guided tour."""
