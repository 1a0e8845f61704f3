//! The status page, built into the program: it works without a network.

/// A file of the page.
pub(super) struct Asset {
    pub(super) content_type: &'static str,
    pub(super) bytes: &'static [u8],
}

pub(super) const PAGE: Asset = Asset {
    content_type: "text/html; charset=utf-8",
    bytes: include_bytes!("../../web/index.html"),
};

pub(super) const STYLE: Asset = Asset {
    content_type: "text/css; charset=utf-8",
    bytes: include_bytes!("../../web/status.css"),
};

pub(super) const SCRIPT: Asset = Asset {
    content_type: "text/javascript; charset=utf-8",
    bytes: include_bytes!("../../web/status.js"),
};
