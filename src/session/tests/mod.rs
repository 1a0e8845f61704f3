//! Tests of the whole session: conversations as scripts, and conversations of chance.

mod chaos;
mod scripts;
mod words;
