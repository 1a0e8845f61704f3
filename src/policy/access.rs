//! Who may come in, and how it has to prove who it is: the rules of a `pg_hba.conf`.
//!
//! The first rule that fits decides. There is no second try by another one.
//! Source: PostgreSQL 17, client-authentication.html, "The pg_hba.conf File".

// Addresses are values; `core` has them without the sockets.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The rules, in the order in which they are tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRules(pub Vec<AccessRule>);

/// One line of a `pg_hba.conf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    /// By which door it lets in.
    pub door: Door,
    /// Into which databases; one of them has to fit.
    pub databases: Vec<DatabaseName>,
    /// Which users; one of them has to fit.
    pub users: Vec<UserName>,
    /// From where. Of no meaning for [`Door::Local`].
    pub network: Network,
    /// What has to be proved.
    pub method: AccessMethod,
    /// Whether a certificate has to be shown as well.
    pub certificate: CertificateNeed,
}

/// By which door a client comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A Unix socket.
    Local,
    /// TCP.
    Host,
    /// TCP with TLS.
    HostSsl,
    /// TCP without TLS.
    HostNoSsl,
}

/// What a rule says of databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseName {
    /// Each of them, and no physical replication.
    All,
    /// The one that is called as the user.
    SameUser,
    /// Physical replication.
    Replication,
    /// This one.
    Named(String),
}

/// What a rule says of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserName {
    /// Each of them.
    All,
    /// This one.
    Named(String),
}

/// From where a rule lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// From everywhere.
    All,
    /// From the addresses that are equal to the first in the bits of the second.
    Masked(IpAddr, IpAddr),
}

/// How a client has to prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessMethod {
    /// It need not.
    Trust,
    /// It may not come in.
    Reject,
    /// By SCRAM-SHA-256. Whoever has an md5 hash stored cannot.
    Scram,
    /// By md5, unless a SCRAM verifier is stored.
    Md5,
    /// By md5 if a hash of it is stored, else by SCRAM-SHA-256.
    Stored,
    /// By a certificate in its name.
    Cert,
    /// By being the user of the operating system of its name.
    Peer,
}

/// Which certificate a client has to show beside its proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateNeed {
    /// None.
    None,
    /// One that is verified.
    Verified,
    /// One that is verified and in its name.
    Named,
}

/// Where a client comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From this machine, by a Unix socket.
    Local {
        /// The name of its user of the operating system, if it has one.
        user: Option<String>,
        /// Whether that is the one that we run as.
        is_ours: bool,
    },
    /// From this address.
    Host(IpAddr),
}

/// Who wants to come in.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// Who it says it is.
    pub user: &'a str,
    /// Where it wants to.
    pub database: &'a str,
    /// Whether it wants to replicate the whole server.
    pub replicates: bool,
    /// Where it comes from.
    pub origin: &'a Origin,
    /// Whether it has encrypted its connection.
    pub encrypted: bool,
}

impl AccessRules {
    /// Everybody may come in who proves a password; from this machine alone where nothing is to be
    /// proved, unless `remote_trust`.
    pub fn everybody(method: AccessMethod, remote_trust: bool) -> Self {
        let rule = |door, network| AccessRule {
            door,
            databases: vec![DatabaseName::All, DatabaseName::Replication],
            users: vec![UserName::All],
            network,
            method,
            certificate: CertificateNeed::None,
        };
        let mut rules = vec![rule(Door::Local, Network::All)];
        match method == AccessMethod::Trust && !remote_trust {
            true => rules.extend(LOOPBACK.map(|network| rule(Door::Host, network))),
            false => rules.push(rule(Door::Host, Network::All)),
        }
        Self(rules)
    }

    /// The rule that decides; `None` when none fits.
    pub fn decide(&self, visit: &Visit<'_>) -> Option<&AccessRule> {
        self.0.iter().find(|rule| rule.fits(visit))
    }
}

impl AccessRule {
    fn fits(&self, visit: &Visit<'_>) -> bool {
        self.opens(visit)
            && self.databases.iter().any(|name| name.fits(visit))
            && self.users.iter().any(|name| name.fits(visit.user))
    }

    fn opens(&self, visit: &Visit<'_>) -> bool {
        match (self.door, visit.origin) {
            (Door::Local, Origin::Local { .. }) => true,
            (Door::Host, Origin::Host(address)) => self.network.holds(*address),
            (Door::HostSsl, Origin::Host(address)) => {
                visit.encrypted && self.network.holds(*address)
            }
            (Door::HostNoSsl, Origin::Host(address)) => {
                !visit.encrypted && self.network.holds(*address)
            }
            (Door::Local, Origin::Host(_))
            | (Door::Host | Door::HostSsl | Door::HostNoSsl, Origin::Local { .. }) => false,
        }
    }

    /// Whether it lets clients of other machines in without a proof.
    pub fn trusts_others(&self) -> bool {
        let is_remote = match self.network {
            Network::All => true,
            Network::Masked(address, mask) => {
                !LOOPBACK.iter().any(|own| own.contains(address, mask))
            }
        };
        self.method == AccessMethod::Trust && self.door != Door::Local && is_remote
    }
}

impl DatabaseName {
    fn fits(&self, visit: &Visit<'_>) -> bool {
        match (self, visit.replicates) {
            (Self::Replication, replicates) => replicates,
            (Self::All | Self::SameUser | Self::Named(_), true) => false,
            (Self::All, false) => true,
            (Self::SameUser, false) => visit.user == visit.database,
            (Self::Named(name), false) => name == visit.database,
        }
    }
}

impl UserName {
    fn fits(&self, user: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(name) => name == user,
        }
    }
}

impl Network {
    /// The network of the first `length` bits of an address; `None` when it has not so many.
    pub fn of_prefix(address: IpAddr, length: u32) -> Option<Self> {
        let ones = |width: u32| (length <= width).then(|| u128::MAX << (width - length));
        let mask = match address {
            IpAddr::V4(_) => {
                let bits = u32::try_from(ones(32)? & u128::from(u32::MAX)).ok()?;
                IpAddr::V4(bits.into())
            }
            IpAddr::V6(_) if length == 0 => IpAddr::V6(0.into()),
            IpAddr::V6(_) => IpAddr::V6(ones(128)?.into()),
        };
        Some(Self::Masked(address, mask))
    }

    fn holds(&self, address: IpAddr) -> bool {
        match *self {
            Self::All => true,
            Self::Masked(network, mask) => match (network, mask, address.to_canonical()) {
                (IpAddr::V4(network), IpAddr::V4(mask), IpAddr::V4(address)) => {
                    network & mask == address & mask
                }
                (IpAddr::V6(network), IpAddr::V6(mask), IpAddr::V6(address)) => {
                    network & mask == address & mask
                }
                _ => false,
            },
        }
    }

    /// Whether all addresses of another network are in this one.
    fn contains(&self, address: IpAddr, mask: IpAddr) -> bool {
        let is_narrower = match (*self, mask) {
            (Self::All, _) => true,
            (Self::Masked(_, IpAddr::V4(own)), IpAddr::V4(mask)) => own & mask == own,
            (Self::Masked(_, IpAddr::V6(own)), IpAddr::V6(mask)) => own & mask == own,
            (Self::Masked(..), _) => false,
        };
        is_narrower && self.holds(address)
    }
}

impl Origin {
    /// As PostgreSQL names it in its errors.
    pub fn name(&self) -> String {
        match self {
            Self::Local { .. } => "[local]".to_owned(),
            Self::Host(address) => address.to_string(),
        }
    }
}

/// This machine's own addresses.
const LOOPBACK: [Network; 2] = [
    Network::Masked(
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V4(Ipv4Addr::new(255, 0, 0, 0)),
    ),
    Network::Masked(
        IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
    ),
];
