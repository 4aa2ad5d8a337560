"""`mlxi models`: which models there are, which are here, and what to do with them."""
