"""The training job: data in, model out, and one stream of events about it."""
