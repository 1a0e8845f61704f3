//! Seen from outside: console, health, metrics.
