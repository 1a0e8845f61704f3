//! How the texts of a session are read: what its server reports decides.

use crate::statement::Reading;

/// The two reported settings that decide how a server reads a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextSettings {
    standard_conforming_strings: String,
    client_encoding: String,
}

impl Default for TextSettings {
    fn default() -> Self {
        Self {
            standard_conforming_strings: "on".to_owned(),
            client_encoding: "UTF8".to_owned(),
        }
    }
}

impl TextSettings {
    /// Notes a reported setting, if it is one of the two.
    pub fn note(&mut self, name: &[u8], value: &[u8]) {
        let value = || String::from_utf8_lossy(value).into_owned();
        match name {
            b"standard_conforming_strings" => self.standard_conforming_strings = value(),
            b"client_encoding" => self.client_encoding = value(),
            _ => {}
        }
    }

    pub(super) fn reading(&self) -> Reading {
        Reading::of_settings(&self.standard_conforming_strings, &self.client_encoding)
    }

    /// The encoding in which the client reads and writes.
    pub(super) fn client_encoding(&self) -> &str {
        &self.client_encoding
    }
}
