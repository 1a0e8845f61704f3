//! What happened, as counters, log lines and lists.
