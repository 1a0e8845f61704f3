//! Settings: the table, the file, the checks.
