//! Builds the parts, names and owns the tasks, orders the shutdown.
