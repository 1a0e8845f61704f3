//! Follows where the messages of one direction end, without cutting or holding any of it.
//!
//! For bytes that are passed on as they come: whoever does that may put a message of its own only
//! between two others.

/// Where in the stream of messages one direction stands. It begins between two of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    /// The length field, as far as it came, and how many bytes of the header did.
    length: [u8; 4],
    header: u8,
    /// What is left of the body.
    body: usize,
    /// A length that cannot be: the rest is not messages.
    broken: bool,
}

impl Edge {
    /// Takes note of bytes that were passed on.
    pub fn follow(&mut self, mut bytes: &[u8]) {
        while !self.broken && !bytes.is_empty() {
            let skipped = self.body.min(bytes.len());
            self.body = self.body.saturating_sub(skipped);
            bytes = bytes.get(skipped..).unwrap_or_default();
            while self.body == 0
                && !self.broken
                && let Some((byte, rest)) = bytes.split_first()
            {
                self.header_byte(*byte);
                bytes = rest;
            }
        }
    }

    fn header_byte(&mut self, byte: u8) {
        if let Some(place) = self.header.checked_sub(1)
            && let Some(digit) = self.length.get_mut(usize::from(place))
        {
            *digit = byte;
        }
        self.header = self.header.saturating_add(1);
        if self.header == HEADER_BYTES {
            self.header = 0;
            let length = u32::from_be_bytes(self.length).checked_sub(LENGTH_BYTES);
            match length.map(usize::try_from) {
                Some(Ok(body)) => self.body = body,
                Some(Err(_)) | None => self.broken = true,
            }
        }
    }

    /// Whether the last byte was the last of a message.
    pub const fn is_between_messages(&self) -> bool {
        self.header == 0 && self.body == 0 && !self.broken
    }
}

const HEADER_BYTES: u8 = 5;
/// The length field counts itself.
const LENGTH_BYTES: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &[u8] = b"Z\0\0\0\x05Id\0\0\0\x0babcdefgc\0\0\0\x04";

    #[test]
    fn the_edges_are_found_however_the_bytes_come() {
        let edges = [0, 6, 18, 23];
        for piece in 1..=MESSAGES.len() {
            let mut edge = Edge::default();
            let mut at = 0;
            for bytes in MESSAGES.chunks(piece) {
                edge.follow(bytes);
                at += bytes.len();
                assert_eq!(
                    edge.is_between_messages(),
                    edges.contains(&at),
                    "{piece} {at}"
                );
            }
        }
    }

    #[test]
    fn after_a_length_that_cannot_be_there_is_no_edge_any_more() {
        let mut edge = Edge::default();
        edge.follow(b"Z\0\0\0\x03Z\0\0\0\x05I");
        assert!(!edge.is_between_messages());
    }
}
