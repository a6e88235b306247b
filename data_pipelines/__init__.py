"""From raw echo files to batches: readers, cleaning, de-identification, shards, loader."""
