"""Where examples come from: tasks, files and hub streams, their schema, splits and batches."""
