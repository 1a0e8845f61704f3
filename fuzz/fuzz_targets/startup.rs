//! Any bytes as the first packet of a connection. The first byte is the size of the chunks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgherd::wire::{
    Cut, ErrorView, FirstPacket, FrameError, Head, Limits, Phase, Splitter, StartupError, backend,
    first_packet, frontend,
};

#[allow(dead_code, reason = "shared with the tests and the other target")]
#[path = "../../src/wire/checks.rs"]
mod checks;

fuzz_target!(|input: &[u8]| {
    if let [size, bytes @ ..] = input {
        checks::startup(bytes, usize::from(*size));
    }
});
