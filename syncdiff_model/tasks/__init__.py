"""What can be trained: one file a task; `base.Task` says what the loop asks of it."""
