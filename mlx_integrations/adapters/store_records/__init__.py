"""Records of models that stores keep among their own metadata, whichever framework fills them."""
