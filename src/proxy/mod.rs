//! Clients in, statements out.
