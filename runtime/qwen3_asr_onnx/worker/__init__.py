"""The worker: one process that programs in any language drive by lines of JSON. docs/worker.md is its protocol."""
