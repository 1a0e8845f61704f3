//! Tests of the wire by what it promises, over more than one file of it.

mod frames;
mod messages;
mod results;
mod scram;
mod startup;
