"""The dispatcher's process: journals in, batches out, outcomes reported."""
