//! Probes on a schedule, and the actions of a failover.
