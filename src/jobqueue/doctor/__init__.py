"""`jobqueue doctor`: small checks of everything a worker needs, each of which ends in a sentence and, if need be, the one thing to do."""
