//! Any bytes from any side, in any chunks, through the splitter and the views.
//!
//! The first byte chooses the side, the second one the size of the chunks.
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
    let [side, size, bytes @ ..] = input else {
        return;
    };
    let sender = match side % 3 {
        0 => checks::Sender::Server,
        1 => checks::Sender::Client,
        _ => checks::Sender::ClientAtLogin,
    };
    let limits = Limits {
        hold: 64,
        ..Limits::default()
    };
    checks::frames(sender, limits, bytes, &[usize::from(*size)]);
});
