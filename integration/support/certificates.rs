//! Certificates made for a test, and psql with what libpq makes of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// An authority, and the directory where it leaves what it signs.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

/// The files of a certificate.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    /// A new one; its own certificate is in the file [`Authority::file`].
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = directory.join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let authority = Self { issuer, directory };
        std::fs::write(authority.file(), authority.issuer.pem()).unwrap();
        authority
    }

    pub(crate) fn file(&self) -> String {
        self.directory.join("ca.crt").to_str().unwrap().to_owned()
    }

    /// A certificate for these names and addresses, in files called by `common_name`.
    pub(crate) fn sign(&self, names: &[&str], common_name: &str) -> Files {
        self.sign_with(names, common_name, |_| {})
    }

    pub(crate) fn sign_with(
        &self,
        names: &[&str],
        common_name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Files {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = named(common_name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |end| self.directory.join(format!("{common_name}.{end}"));
        std::fs::write(path("crt"), certificate.pem()).unwrap();
        write_private(&path("key"), &key.serialize_pem());
        let text = |end| path(end).to_str().unwrap().to_owned();
        Files {
            certificate: text("crt"),
            key: text("key"),
        }
    }
}

/// libpq and PostgreSQL refuse a key that others may read.
fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).unwrap();
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Runs psql: what it printed, or what it complained about.
pub(crate) async fn psql(
    address: SocketAddr,
    options: &str,
    query: &str,
) -> Result<String, String> {
    let connection = format!(
        "host=localhost hostaddr={} port={} {options}",
        address.ip(),
        address.port()
    );
    let output = tokio::process::Command::new("psql")
        .args(["-X", "-A", "-t", "-d", &connection, "-c", query])
        // Without the files of whoever runs the tests.
        .env("HOME", "/nonexistent")
        .env_remove("PGSSLROOTCERT")
        .kill_on_drop(true)
        .output()
        .await
        .expect("psql is on PATH");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}
