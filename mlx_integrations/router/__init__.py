"""Choose who answers, local or cloud, and go on to the next one when that fails, without showing two answers."""
