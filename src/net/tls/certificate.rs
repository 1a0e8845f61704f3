//! What rustls does not tell of a certificate: its subject, its key, the hash that channel binding
//! takes of it.

use rustls::pki_types::{CertificateDer, ServerName};
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{ContextSpecific, ObjectIdentifier};
use x509_cert::der::{Decode, Encode, SliceReader, Tag, TagNumber, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::spki::AlgorithmIdentifierOwned;

/// Whom a verified certificate of a client names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The first common name of the subject, as it is; `None` when there is none, or it holds a
    /// NUL byte, which a comparison elsewhere might take for its end.
    pub common_name: Option<String>,
    /// The whole subject, as in `CN=ann,O=Example`. Source: RFC 4514.
    pub subject: String,
}

impl PeerCertificate {
    /// Reads the subject; `None` for what is not a certificate.
    pub(super) fn parse(der: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let subject = certificate.tbs_certificate().subject();
        Some(Self {
            common_name: subject.iter().find(is_common_name).and_then(text),
            subject: subject.to_string(),
        })
    }
}

/// What the certificate of a server says of its names and its time.
pub(super) struct ServerNames {
    common_name: Option<String>,
    /// Whether an alternative name is a name, or an address.
    has_name: bool,
    has_address: bool,
    /// Seconds of Unix.
    pub(super) not_before: u64,
    pub(super) not_after: u64,
}

impl ServerNames {
    /// Reads a certificate of any version; `None` for what is not one.
    pub(super) fn parse(der: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let certificate = certificate.tbs_certificate();
        let subject = certificate.subject();
        let alternatives = certificate.get_extension::<SubjectAltName>().ok()?;
        let names = alternatives.map(|(_critical, names)| names.0);
        let has = |kind: fn(&GeneralName) -> bool| names.iter().flatten().any(kind);
        let validity = certificate.validity();
        Some(Self {
            common_name: subject.iter().find(is_common_name).and_then(text),
            has_name: has(|name| matches!(name, GeneralName::DnsName(_))),
            has_address: has(|name| matches!(name, GeneralName::IpAddress(_))),
            not_before: validity.not_before.to_unix_duration().as_secs(),
            not_after: validity.not_after.to_unix_duration().as_secs(),
        })
    }

    /// Whether the common name is that of the host, and may be asked.
    pub(super) fn fit_by_common_name(&self, host: &ServerName<'_>) -> bool {
        let Some(name) = &self.common_name else {
            return false;
        };
        match host {
            ServerName::DnsName(host) => !self.has_name && is_name_of(name, host.as_ref()),
            ServerName::IpAddress(address) => {
                !self.has_address && *name == std::net::IpAddr::from(*address).to_string()
            }
            _ => false,
        }
    }
}

/// Whether a name, which may begin with a wildcard for one label, is that of a host.
///
/// Source: PostgreSQL 17, `wildcard_certificate_match`.
fn is_name_of(name: &str, host: &str) -> bool {
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(domain) = name.strip_prefix("*.").filter(|domain| !domain.is_empty()) else {
        return false;
    };
    match host.split_once('.') {
        Some((label, rest)) => !label.is_empty() && rest.eq_ignore_ascii_case(domain),
        None => false,
    }
}

fn is_common_name(part: &&AttributeTypeAndValue) -> bool {
    part.oid == COMMON_NAME
}

/// The text of a name. PostgreSQL takes the bytes as they are, so only those forms are read whose
/// bytes are UTF-8.
fn text(part: &AttributeTypeAndValue) -> Option<String> {
    let is_bytes = matches!(
        part.value.tag(),
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::TeletexString
    );
    let text = std::str::from_utf8(part.value.value()).ok()?;
    (is_bytes && !text.is_empty() && !text.contains('\0')).then(|| text.to_owned())
}

/// The public key of a certificate, as its key pair has it.
pub(super) fn public_key(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let certificate = Certificate::from_der(der).ok()?;
    let key = certificate.tbs_certificate().subject_public_key_info();
    key.to_der().ok()
}

/// The hash of a certificate that `tls-server-end-point` binds to: that of its signature, but
/// SHA-256 in place of those that are broken. `None` where the signature has no hash of its own,
/// as in Ed25519.
///
/// Source: RFC 5929, section 4.1.
pub fn end_point(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let certificate = Certificate::from_der(der).ok()?;
    Some(match signature_hash(certificate.signature_algorithm())? {
        Hash::Sha224 => Sha224::digest(der).to_vec(),
        Hash::Sha256 => Sha256::digest(der).to_vec(),
        Hash::Sha384 => Sha384::digest(der).to_vec(),
        Hash::Sha512 => Sha512::digest(der).to_vec(),
    })
}

enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// The hash of a signature algorithm, with MD5 and SHA-1 replaced.
fn signature_hash(algorithm: &AlgorithmIdentifierOwned) -> Option<Hash> {
    if algorithm.oid == oid(RSA_PSS) {
        return pss_hash(algorithm);
    }
    let find = |list: &[&str]| list.iter().any(|known| algorithm.oid == oid(known));
    if find(WITH_SHA256_OR_OLDER) {
        Some(Hash::Sha256)
    } else if find(WITH_SHA384) {
        Some(Hash::Sha384)
    } else if find(WITH_SHA512) {
        Some(Hash::Sha512)
    } else if find(WITH_SHA224) {
        Some(Hash::Sha224)
    } else {
        None
    }
}

/// RSASSA-PSS names its hash in its parameters; without them it is SHA-1. Source: RFC 4055, 3.1.
fn pss_hash(algorithm: &AlgorithmIdentifierOwned) -> Option<Hash> {
    let Some(parameters) = &algorithm.parameters else {
        return Some(Hash::Sha256);
    };
    let mut reader = SliceReader::new(parameters.value()).ok()?;
    let hash =
        ContextSpecific::<AlgorithmIdentifierOwned>::decode_explicit(&mut reader, TagNumber(0));
    let Ok(Some(hash)) = hash else {
        return Some(Hash::Sha256);
    };
    let is = |known: &str| hash.value.oid == oid(known);
    match () {
        () if is(SHA384) => Some(Hash::Sha384),
        () if is(SHA512) => Some(Hash::Sha512),
        () if is(SHA224) => Some(Hash::Sha224),
        () if is(SHA256) || is(SHA1) => Some(Hash::Sha256),
        () => None,
    }
}

fn oid(text: &str) -> ObjectIdentifier {
    // A mistake in the lists below would be an algorithm that is never met; a test reads them all.
    ObjectIdentifier::new(text).unwrap_or(COMMON_NAME)
}

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const RSA_PSS: &str = "1.2.840.113549.1.1.10";
const SHA1: &str = "1.3.14.3.2.26";
const SHA224: &str = "2.16.840.1.101.3.4.2.4";
const SHA256: &str = "2.16.840.1.101.3.4.2.1";
const SHA384: &str = "2.16.840.1.101.3.4.2.2";
const SHA512: &str = "2.16.840.1.101.3.4.2.3";
/// RSA and ECDSA with MD5, SHA-1 and SHA-256.
const WITH_SHA256_OR_OLDER: &[&str] = &[
    "1.2.840.113549.1.1.4",
    "1.2.840.113549.1.1.5",
    "1.2.840.113549.1.1.11",
    "1.2.840.10045.4.1",
    "1.2.840.10045.4.3.2",
];
const WITH_SHA224: &[&str] = &["1.2.840.113549.1.1.14", "1.2.840.10045.4.3.1"];
const WITH_SHA384: &[&str] = &["1.2.840.113549.1.1.12", "1.2.840.10045.4.3.3"];
const WITH_SHA512: &[&str] = &["1.2.840.113549.1.1.13", "1.2.840.10045.4.3.4"];
