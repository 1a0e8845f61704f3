//! Reads a `pg_hba.conf`: its text to rules, and every line that cannot be used with its number.
//!
//! What is not supported is refused, never passed over: a rule that is missing opens a door that
//! somebody wanted closed, or the other way about.
//! Source: PostgreSQL 17, client-authentication.html, and `libpq/hba.c`.

use std::net::IpAddr;

use crate::policy::{
    AccessMethod, AccessRule, CertificateNeed, DatabaseName, Door, Network, UserName,
};

/// A line that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HbaError {
    /// From 1.
    pub(super) line: usize,
    pub(super) message: String,
}

/// Reads the file of an `@name`.
pub(super) type ReadFile<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// A word, and whether it was in quotes: then it is a name whatever it says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    text: String,
    quoted: bool,
}

/// A rule with the number of its line.
pub(super) type Numbered = (usize, AccessRule);

/// Words that were separated by commas.
type Field = Vec<Word>;

/// Reads all lines.
pub(super) fn parse(text: &str, read_file: ReadFile<'_>) -> (Vec<Numbered>, Vec<HbaError>) {
    let mut rules = Vec::new();
    let mut errors = Vec::new();
    for (line, text) in lines(text) {
        let fields = match fields(&text) {
            Ok(fields) if fields.is_empty() => continue,
            Ok(fields) => fields,
            Err(message) => {
                errors.push(HbaError { line, message });
                continue;
            }
        };
        match rule(&fields, read_file) {
            Ok(rule) => rules.push((line, rule)),
            Err(message) => errors.push(HbaError { line, message }),
        }
    }
    (rules, errors)
}

/// The lines with their numbers; one that ends in a backslash goes on in the next.
fn lines(text: &str) -> Vec<(usize, String)> {
    let mut joined: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (number, line) in (1..).zip(text.lines()) {
        let (part, more) = match line.strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line, false),
        };
        match joined.last_mut() {
            Some((_, last)) if goes_on => last.push_str(part),
            _ => joined.push((number, part.to_owned())),
        }
        goes_on = more;
    }
    joined
}

/// Cuts a line at blanks outside of quotes, up to a comment.
fn fields(line: &str) -> Result<Vec<Field>, String> {
    let mut fields: Vec<Field> = Vec::new();
    let mut letters = line.chars().peekable();
    let mut after_comma = false;
    loop {
        while letters
            .next_if(|letter| letter.is_whitespace() || *letter == ',')
            .is_some()
        {}
        match letters.peek() {
            None | Some('#') => return Ok(fields),
            Some(_) => {}
        }
        let word = word(&mut letters)?;
        match fields.last_mut() {
            Some(field) if after_comma => field.push(word),
            _ => fields.push(vec![word]),
        }
        after_comma = letters.peek() == Some(&',');
    }
}

fn word(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Word, String> {
    let mut text = String::new();
    let quoted = letters.peek() == Some(&'"');
    let mut inside = false;
    let ends = |letter: char| letter.is_whitespace() || letter == ',' || letter == '#';
    while let Some(letter) = letters.next_if(|letter| inside || !ends(*letter)) {
        match letter {
            '"' if inside && letters.next_if_eq(&'"').is_some() => text.push('"'),
            '"' => inside = !inside,
            _ => text.push(letter),
        }
    }
    match inside {
        true => Err("a quote is not closed".to_owned()),
        false => Ok(Word { text, quoted }),
    }
}

fn rule(fields: &[Field], read_file: ReadFile<'_>) -> Result<AccessRule, String> {
    let mut fields = fields.iter();
    let mut next = |what: &str| {
        fields
            .next()
            .ok_or_else(|| format!("end of line before {what}"))
    };
    let door = door(only(next("the connection type")?, "connection type")?)?;
    let databases = expanded(next("the database")?, read_file, 0)?;
    let databases = databases.iter().map(database).collect::<Result<_, _>>()?;
    let users = expanded(next("the user")?, read_file, 0)?;
    let users = users.iter().map(user).collect::<Result<_, _>>()?;
    let network = match door {
        Door::Local => Network::All,
        Door::Host | Door::HostSsl | Door::HostNoSsl => {
            let address = only(next("the address")?, "address")?;
            match address.text.parse::<IpAddr>() {
                Ok(ip) => masked(ip, only(next("the netmask")?, "netmask")?)?,
                Err(_) => network(address)?,
            }
        }
    };
    let method = method(only(next("the method")?, "method")?)?;
    let mut rule = AccessRule {
        door,
        databases,
        users,
        network,
        method,
        certificate: CertificateNeed::None,
    };
    for option in fields {
        rule.certificate = certificate(&only(option, "option")?.text)?;
    }
    possible(&rule)?;
    Ok(rule)
}

/// What contradicts itself.
fn possible(rule: &AccessRule) -> Result<(), String> {
    let needs_tls = rule.method == AccessMethod::Cert || rule.certificate != CertificateNeed::None;
    match rule.door {
        Door::HostSsl => {}
        Door::Local | Door::Host | Door::HostNoSsl if needs_tls => {
            return Err("certificates are only there on hostssl connections".to_owned());
        }
        Door::Local | Door::Host | Door::HostNoSsl => {}
    }
    if rule.method == AccessMethod::Peer && rule.door != Door::Local {
        return Err("peer authentication is only supported on local sockets".to_owned());
    }
    Ok(())
}

fn only<'a>(field: &'a Field, what: &str) -> Result<&'a Word, String> {
    match field.as_slice() {
        [word] => Ok(word),
        _ => Err(format!("multiple values specified for {what}")),
    }
}

fn door(word: &Word) -> Result<Door, String> {
    match word.text.as_str() {
        "local" => Ok(Door::Local),
        // There is no GSSAPI encryption here, so all are without it.
        "host" | "hostnogssenc" => Ok(Door::Host),
        "hostssl" => Ok(Door::HostSsl),
        "hostnossl" => Ok(Door::HostNoSsl),
        other => Err(format!(
            "connection type \"{other}\" is not supported here: local, host, hostssl, hostnossl are"
        )),
    }
}

/// The words of a field, with those of the files that it names.
fn expanded(field: &Field, read_file: ReadFile<'_>, depth: u32) -> Result<Field, String> {
    let mut words = Vec::new();
    for word in field {
        let Some(file) = word.text.strip_prefix('@').filter(|_| !word.quoted) else {
            words.push(word.clone());
            continue;
        };
        if depth >= DEPTH_MAX {
            return Err(format!("@{file}: files name each other too deep"));
        }
        let text = read_file(file).map_err(|error| format!("@{file}: {error}"))?;
        for (_, line) in lines(&text) {
            for field in fields(&line).map_err(|error| format!("@{file}: {error}"))? {
                words.extend(expanded(&field, read_file, depth + 1)?);
            }
        }
    }
    Ok(words)
}

fn database(word: &Word) -> Result<DatabaseName, String> {
    match word.text.as_str() {
        _ if word.quoted => Ok(DatabaseName::Named(word.text.clone())),
        "all" => Ok(DatabaseName::All),
        "sameuser" => Ok(DatabaseName::SameUser),
        "replication" => Ok(DatabaseName::Replication),
        "samerole" | "samegroup" => Err(format!(
            "\"{}\" is not supported here: the router does not know who is a member of a role",
            word.text
        )),
        name if name.starts_with('/') => Err(PATTERN.to_owned()),
        name => Ok(DatabaseName::Named(name.to_owned())),
    }
}

fn user(word: &Word) -> Result<UserName, String> {
    match word.text.as_str() {
        _ if word.quoted => Ok(UserName::Named(word.text.clone())),
        "all" => Ok(UserName::All),
        name if name.starts_with('+') => Err(format!(
            "\"{name}\" is not supported here: the router does not know who is a member of a role"
        )),
        name if name.starts_with('/') => Err(PATTERN.to_owned()),
        name => Ok(UserName::Named(name.to_owned())),
    }
}

/// `all`, or an address with the length of its mask.
fn network(word: &Word) -> Result<Network, String> {
    let text = word.text.as_str();
    if text == "all" && !word.quoted {
        return Ok(Network::All);
    }
    let Some((address, length)) = text.split_once('/') else {
        return Err(format!(
            "\"{text}\" is not an address range: names of hosts are not looked up here, nor are \
             samehost and samenet"
        ));
    };
    let address = address.parse::<IpAddr>();
    let address = address.map_err(|_bad| format!("invalid IP address \"{text}\""))?;
    let length = length.parse().ok();
    length
        .and_then(|length| Network::of_prefix(address, length))
        .ok_or_else(|| format!("invalid CIDR mask in address \"{text}\""))
}

fn masked(address: IpAddr, mask: &Word) -> Result<Network, String> {
    let text = &mask.text;
    match (address, text.parse::<IpAddr>()) {
        (IpAddr::V4(_), Ok(mask @ IpAddr::V4(_))) | (IpAddr::V6(_), Ok(mask @ IpAddr::V6(_))) => {
            Ok(Network::Masked(address, mask))
        }
        (_, Ok(_)) => Err("IP address and mask do not match".to_owned()),
        (_, Err(_)) => Err(format!(
            "invalid IP mask \"{text}\": specify the address range in CIDR notation, or provide a \
             separate netmask"
        )),
    }
}

fn method(word: &Word) -> Result<AccessMethod, String> {
    match word.text.as_str() {
        "trust" => Ok(AccessMethod::Trust),
        "reject" => Ok(AccessMethod::Reject),
        "scram-sha-256" => Ok(AccessMethod::Scram),
        "md5" => Ok(AccessMethod::Md5),
        "cert" => Ok(AccessMethod::Cert),
        "peer" => Ok(AccessMethod::Peer),
        other => Err(format!(
            "method \"{other}\" is not supported here: trust, reject, scram-sha-256, md5, cert, \
             peer are"
        )),
    }
}

fn certificate(option: &str) -> Result<CertificateNeed, String> {
    match option {
        "clientcert=verify-ca" => Ok(CertificateNeed::Verified),
        "clientcert=verify-full" => Ok(CertificateNeed::Named),
        _ => Err(format!(
            "option \"{option}\" is not supported here: clientcert=verify-ca and \
             clientcert=verify-full are"
        )),
    }
}

const PATTERN: &str = "regular expressions are not supported here";
/// Files that name files that name files. PostgreSQL's own limit.
const DEPTH_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn no_files(_: &str) -> Result<String, String> {
        Err("no such file".to_owned())
    }

    fn one(line: &str) -> Result<AccessRule, String> {
        let (mut rules, mut errors) = parse(line, &no_files);
        match (rules.pop(), errors.pop()) {
            (Some((_, rule)), None) => Ok(rule),
            (None, Some(error)) => Err(error.message),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_line_is_read_as_postgresql_reads_it() {
        let named = |text: &str| DatabaseName::Named(text.to_owned());
        let rule = one(
            "hostssl app, \"all\",\"we\"\"b, x\" ann,all 10.1.2.3/8 md5 clientcert=verify-ca # x",
        );
        let expected = AccessRule {
            door: Door::HostSsl,
            databases: vec![named("app"), named("all"), named("we\"b, x")],
            users: vec![UserName::Named("ann".to_owned()), UserName::All],
            network: Network::of_prefix("10.1.2.3".parse().unwrap(), 8).unwrap(),
            method: AccessMethod::Md5,
            certificate: CertificateNeed::Verified,
        };
        assert_eq!(rule, Ok(expected));
    }

    #[test]
    fn an_address_may_have_its_mask_apart() {
        let apart = one("host all all 10.0.0.0 255.0.0.0 reject").unwrap();
        assert_eq!(apart, one("host all all 10.0.0.0/8 reject").unwrap());
        let apart = one("host all all ::1 ffff:: reject").unwrap();
        assert_eq!(apart, one("host all all ::1/16 reject").unwrap());
    }

    #[test]
    fn a_line_may_go_on_in_the_next_and_numbers_stay_right() {
        let text = "# comment\n\nlocal all \\\n  all trust\nhost\n";
        let (rules, errors) = parse(text, &no_files);
        assert_eq!(rules.len(), 1);
        assert_eq!(
            errors,
            [HbaError {
                line: 5,
                message: "end of line before the database".to_owned()
            }]
        );
    }

    #[test]
    fn a_list_may_stand_in_a_file_and_files_may_name_files() {
        let read = |name: &str| match name {
            "users" => Ok("ann # first\n@more, bob\n".to_owned()),
            "more" => Ok("\"all\"\n".to_owned()),
            "loop" => Ok("@loop".to_owned()),
            _ => Err("no such file".to_owned()),
        };
        let (rules, errors) = parse("local all @users trust", &read);
        assert_eq!(errors, []);
        let names = ["ann", "all", "bob"].map(|name| UserName::Named(name.to_owned()));
        assert_eq!(rules[0].1.users, names);
        for line in ["local all @loop trust", "local @absent all trust"] {
            assert_eq!(parse(line, &read).1.len(), 1, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_and_never_passed_over() {
        for line in [
            "remote all all trust",
            "hostgssenc all all 0.0.0.0/0 trust",
            "local",
            "local all",
            "local all all",
            "local all all password",
            "local all all ldap",
            "local all all cert",
            "host all all 0.0.0.0/0 peer",
            "host all all 0.0.0.0/0 cert",
            "local samerole all trust",
            "local all +staff trust",
            "local all /^a trust",
            "local /^a all trust",
            "host all all db.example.com trust",
            "host all all samenet trust",
            "host all all 10.0.0.0 trust",
            "host all all 10.0.0.0/33 trust",
            "host all all 10.0.0.0/x trust",
            "host all all ::1 255.0.0.0 trust",
            "host all all 1.2.3/8 trust",
            "local all all peer map=x",
            "local all all,  trust peer, md5",
            "local all \"all trust",
            "include other.conf",
        ] {
            assert!(one(line).is_err(), "{line}");
        }
    }

    #[test]
    fn no_text_makes_it_fail() {
        let mut seed = 7_u64;
        let alphabet: Vec<char> = "local host all\"\\@,#/\n\t 0.1:ü+=".chars().collect();
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..40 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = usize::try_from(seed >> 33).unwrap() % alphabet.len();
                text.push(alphabet[at]);
            }
            parse(&text, &no_files);
        }
    }
}
