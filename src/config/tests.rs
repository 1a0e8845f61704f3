//! The configuration from the outside: texts in, structs or reports out.

use std::time::Duration;

use super::*;
use crate::cluster::Address;
use crate::policy::{self, ReadTargets};
use crate::{session, upstream};

const MINIMAL: &str = "\
[listen]
postgres = \"0.0.0.0:6432\"

[monitor]
user = \"pgherd\"

[cluster.main]
hosts = [\"pg1\", \"pg2\", \"pg3\"]
";

fn environment(pairs: &[(&str, &str)]) -> Environment {
    Environment::from_pairs(
        pairs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into())),
    )
}

fn read(text: &str) -> Config {
    read_with(text, &[])
}

fn read_with(text: &str, variables: &[(&str, &str)]) -> Config {
    match load_text("pgherd.toml", text, &environment(variables)) {
        Ok((config, _)) => config,
        Err(problems) => panic!("{problems}"),
    }
}

fn codes(text: &str) -> Vec<u16> {
    let problems = load_text("pgherd.toml", text, &Environment::default()).unwrap_err();
    problems
        .0
        .iter()
        .map(|problem| problem.code.number())
        .collect()
}

/// A file with one line in the section that it names, after a host list.
fn with(section: &str, line: &str) -> String {
    format!("[cluster.main]\nhosts = [\"pg1\", \"pg2\"]\n[{section}]\n{line}\n")
}

#[test]
fn eight_lines_are_enough() {
    let config = read(MINIMAL);
    assert_eq!(
        config.listen.postgres,
        ["0.0.0.0:6432".parse::<Address>().unwrap()]
    );
    assert_eq!(config.listen.http, Some("127.0.0.1:8432".parse().unwrap()));
    assert_eq!(config.cluster.name, "main");
    let names: Vec<_> = config
        .cluster
        .hosts
        .iter()
        .map(|host| host.name.as_str())
        .collect();
    assert_eq!(names, ["pg1", "pg2", "pg3"]);
    assert!(config.cluster.serves("anything"));
    assert_eq!(config.auth.method, AuthMethod::Lookup);
}

#[test]
fn the_table_has_the_defaults_of_the_rules() {
    let config = read(MINIMAL);
    assert_eq!(config.policy, policy::Rules::default());
    assert_eq!(config.session, session::Rules::default());
    assert_eq!(config.upstream, upstream::Rules::default());
}

#[test]
fn every_default_is_a_value_of_its_own_row() {
    for setting in SETTINGS {
        if let Some(text) = setting.default {
            assert!(setting.kind.parse(text).is_ok(), "{}", setting.key);
        }
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let text = with("cluster.main.lag", "max_time = \"2s\"\nback_time = \"1s\"");
    let config = read_with(
        &text,
        &[
            ("PGHERD_CLUSTER__MAIN__LAG__MAX_TIME", "3s"),
            (
                "PGHERD_CLUSTER__MAIN__ROUTE__READ_ONLY_FUNCTIONS",
                "Report, app.total",
            ),
            ("PGHERD_CLUSTER__MAIN__POOL__SIZE", "7"),
            ("PGHERD_CLUSTER__MAIN__FAILOVER__REPOINT", "false"),
            ("PGHERD_PORT", "tcp://10.0.0.1:6432"),
        ],
    );
    assert_eq!(config.policy.lag.max_time, Duration::from_secs(3));
    assert_eq!(config.policy.lag.back_time, Duration::from_secs(1));
    assert_eq!(
        config.policy.route.read_only_functions,
        ["report", "app.total"]
    );
    assert_eq!(config.upstream.size, 7);
    assert!(!config.policy.failover.repoint);
}

#[test]
fn the_mode_of_a_socket_is_octal() {
    let text = |mode: &str| {
        let lines = format!("unix_socket_dir = \"/run/x\"\nunix_socket_mode = \"{mode}\"");
        with("listen", &lines)
    };
    let config = read(&text("0770"));
    assert_eq!(config.listen.unix_socket, Some(("/run/x".into(), 0o770)));
    for mode in ["", "0888", "1777", "rwx", "-1"] {
        assert_eq!(codes(&text(mode)), [105], "{mode}");
    }
    assert_eq!(read(MINIMAL).listen.unix_socket, None);
}

#[test]
fn a_container_needs_no_file() {
    let variables = [
        ("PGHERD_HOSTS", "pg1,pg2:5433"),
        ("PGHERD_MONITOR_USER", "watcher"),
        ("PGHERD_MONITOR_PASSWORD", "hunter2"),
    ];
    let (config, _) = load(None, &environment(&variables)).unwrap();
    assert_eq!(config.cluster.hosts[1].address, "pg2:5433".parse().unwrap());
    assert_eq!(config.monitor.user, "watcher");
    let password = config.monitor.password_for(&"pg1".parse().unwrap());
    assert_eq!(password.map(Secret::reveal), Some("hunter2"));
}

#[test]
fn the_hosts_of_the_environment_are_those_of_the_files_cluster() {
    let config = read_with("[cluster.shop]\n", &[("PGHERD_HOSTS", "pg9")]);
    assert_eq!(config.cluster.name, "shop");
    assert_eq!(config.cluster.hosts[0].name, "pg9");
}

#[test]
fn a_wrong_variable_is_named() {
    let variables = [("PGHERD_HOSTS", "pg1"), ("PGHERD_LISTEN__PRT", "1")];
    let problems = load(None, &environment(&variables)).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "error[PGH-0107]: unknown key `prt` in [listen]\n  --> environment variable \
         PGHERD_LISTEN__PRT\n   = known here: postgres, unix_socket_dir, unix_socket_mode, http, tls\n1 error\n"
    );
}

#[test]
fn hosts_that_share_a_machine_are_called_by_port_unless_they_have_a_name() {
    let text = "[cluster.main]\nhosts = [\"localhost:5433\", \"localhost:5434\", \"c=localhost:5435\"]\n\
                [cluster.main.node.c]\nweight = 0\ncandidate = false\n\
                [cluster.main.node.\"localhost:5433\"]\nweight = 50\n";
    let config = read(text);
    let hosts: Vec<_> = config
        .cluster
        .hosts
        .iter()
        .map(|host| (host.name.as_str(), host.weight, host.candidate))
        .collect();
    assert_eq!(
        hosts,
        [
            ("localhost:5433", 50, true),
            ("localhost:5434", 100, true),
            ("c", 0, false)
        ]
    );
}

#[test]
fn strong_consistency_reads_from_the_primary() {
    let config = read(&with("cluster.main.route", "consistency = \"strong\""));
    assert_eq!(config.policy.route.reads, ReadTargets::PrimaryOnly);
    let config = read(&with("cluster.main.route", "consistency = \"eventual\""));
    assert!(!config.policy.route.read_your_writes);
}

#[test]
fn a_password_file_is_read_and_its_line_end_dropped() {
    let path = scratch("password", "hunter2\n");
    let config = read(&with(
        "monitor",
        &format!("password = {{ file = {path:?} }}"),
    ));
    assert_eq!(config.monitor.password, Some(Secret::new("hunter2")));
    assert!(!format!("{config:?}").contains("hunter2"));
    let row = config
        .rows()
        .into_iter()
        .find(|row| row.key == "monitor.password")
        .unwrap();
    assert_eq!(row.value, "***");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_private_passfile_gives_the_password_of_a_host_and_a_public_one_does_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let path = scratch("passfile", "pg1:5432:*:pgherd:hunter2\n");
    let password = || {
        let config = read_with(MINIMAL, &[("PGPASSFILE", path.to_str().unwrap())]);
        config
            .monitor
            .password_for(&"pg1".parse().unwrap())
            .cloned()
    };
    for (mode, expected) in [(0o644, None), (0o600, Some(Secret::new("hunter2")))] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(password(), expected);
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn users_come_from_a_list_in_pgbouncers_format() {
    let path = scratch("userlist", "\"app\" \"secret\"\n");
    let text = with("auth", &format!("method = \"file\"\nfile = {path:?}"));
    let config = read(&text);
    assert_eq!(config.auth.users[0].name, "app");
    std::fs::write(&path, "\"app\" \"new\"\n").unwrap();
    let changes = diff(&config, &read(&text));
    assert_eq!((changes.len(), changes[0].key.as_str()), (1, "auth.file"));
    std::fs::write(&path, "app secret\n").unwrap();
    assert_eq!(codes(&text), [115]);
    std::fs::remove_file(path).unwrap();
    assert_eq!(codes(&text), [115]);
}

fn scratch(name: &str, text: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("pgherd-{name}-{}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_report_has_every_mistake_of_a_file_with_its_place() {
    for name in ["mistakes", "contradictions", "syntax", "risks"] {
        let text = std::fs::read_to_string(format!("src/config/testdata/{name}.toml")).unwrap();
        let report = match load_text(&format!("{name}.toml"), &text, &Environment::default()) {
            Ok((_, warnings)) => Problems(warnings),
            Err(problems) => problems,
        };
        docs::compare(
            &format!("src/config/testdata/{name}.txt"),
            &report.to_string(),
        );
    }
}

#[test]
fn a_line_with_a_password_is_not_repeated() {
    let text = with("monitor", "password = [\"hunter2\"]");
    let problems = load_text("pgherd.toml", &text, &Environment::default()).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "error[PGH-0103]: monitor.password: expected a text in quotes, found a list\n  --> \
         pgherd.toml:4:12\n1 error\n"
    );
}

#[test]
fn every_code_can_happen() {
    let missing_file = load(
        Some("/nonexistent/pgherd.toml".as_ref()),
        &Environment::default(),
    );
    assert_eq!(missing_file.unwrap_err().0[0].code, Code::Unreadable);
    let cases = [
        ("[listen\n".to_owned(), 101),
        (String::new(), 102),
        (with("cluster.main.pool", "size = \"x\""), 103),
        (with("log", "level = \"loud\""), 104),
        (with("cluster.main.pool", "size = 0"), 105),
        (with("log", "colour = true"), 107),
        ("[cluster.main]\nhosts = [\"pg 1\"]\n".to_owned(), 108),
        (
            "[cluster.main]\nhosts = [\"pg1\", \"pg1:5432\"]\n".to_owned(),
            109,
        ),
        (with("cluster.main.node.pg7", "weight = 1"), 110),
        (with("monitor", "timeout = 1"), 112),
        (
            with(
                "monitor",
                "password = { env = \"A\", file = \"/dev/null\" }",
            ),
            113,
        ),
        (
            with("monitor", "password = { file = \"/nonexistent\" }"),
            115,
        ),
    ];
    for (text, code) in cases {
        assert_eq!(codes(&text), [code], "{text}");
    }
}

#[test]
fn contradictions_are_errors() {
    for (section, line) in [
        ("auth", "method = \"file\""),
        ("auth", "query = \"SELECT 1\""),
        ("listen", "postgres = [\"127.0.0.1:1\", \"0.0.0.0:1\"]"),
        ("listen", "http = \"127.0.0.1:6432\""),
        ("cluster.main.lag", "back_bytes = \"1GB\""),
        ("cluster.main.failover", "mode = \"auto\""),
        ("cluster.other", "hosts = [\"x\"]"),
    ] {
        assert_eq!(codes(&with(section, line)), [113], "{line}");
    }
    assert_eq!(
        codes("[cluster.main]\nhosts = [\"localhost:6432\"]\n"),
        [113]
    );
}

#[test]
fn a_reload_knows_what_changed_and_what_must_wait() {
    let old = read(MINIMAL);
    let new = read(
        "[monitor]\npassword = \"new\"\n[cluster.main]\nhosts = [\"pg1\", \"pg2\", \"pg3\"]\n\
         [cluster.main.lag]\nmax_time = \"2s\"\n",
    );
    let changes: Vec<_> = diff(&old, &new)
        .into_iter()
        .map(|c| (c.key, c.from, c.to, c.needs_restart))
        .collect();
    let expected = [
        ("listen.postgres", "0.0.0.0:6432", "127.0.0.1:6432", true),
        ("monitor.password", "", "***", true),
        ("cluster.main.lag.max_time", "1s", "2s", false),
    ]
    .map(|(key, from, to, restart)| (key.to_owned(), from.to_owned(), to.to_owned(), restart));
    assert_eq!(changes, expected);
    assert_eq!(diff(&new, &new), []);
}

#[test]
fn a_row_says_where_its_value_came_from() {
    let config = read_with(MINIMAL, &[("PGHERD_LOG__LEVEL", "debug")]);
    let row = |key: &str| {
        config
            .rows()
            .into_iter()
            .find(|row| row.key == key)
            .unwrap()
    };
    assert_eq!(
        row("listen.postgres"),
        ConfigRow {
            key: "listen.postgres".into(),
            value: "0.0.0.0:6432".into(),
            default: "127.0.0.1:6432".into(),
            changeable: "restart",
            source: "file",
            origin: "pgherd.toml:2:12".into(),
        }
    );
    assert_eq!(
        row("log.level").origin,
        "environment variable PGHERD_LOG__LEVEL"
    );
    assert_eq!(row("state.dir").source, "default");
}

#[test]
fn tls_to_servers_needs_what_it_verifies_by() {
    let read = |lines: &str| {
        let text = format!("[cluster.main]\nhosts = [\"pg1\"]\n{lines}\n");
        load_text("pgherd.toml", &text, &Environment::default())
    };
    let told = |lines: &str| read(lines).unwrap_err().to_string();
    for mode in ["verify-ca", "verify-full"] {
        let text = told(&format!("tls = \"{mode}\""));
        assert!(
            text.contains(&format!("tls = \"{mode}\" needs tls_ca_file")),
            "{text}"
        );
    }
    assert!(told("tls_negotiation = \"direct\"").contains("needs tls = \"require\""));
    assert!(read("tls = \"require\"\ntls_negotiation = \"direct\"").is_ok());
    let half = told("tls_cert_file = \"x\"");
    assert!(
        half.contains("cluster.main.tls_cert_file needs cluster.main.tls_key_file"),
        "{half}"
    );
    assert!(read("tls = \"disable\"\ntls_ca_file = \"/nowhere/ca.crt\"").is_ok());
    let missing = told("tls_ca_file = \"/nowhere/ca.crt\"");
    assert!(missing.contains("cannot use /nowhere/ca.crt"), "{missing}");
}

fn tls(lines: &str) -> String {
    with("listen.tls", lines)
}

#[test]
fn tls_needs_both_files_and_what_it_requires() {
    let told = |lines: &str| {
        let problems = load_text("pgherd.toml", &tls(lines), &Environment::default());
        problems.unwrap_err().to_string()
    };
    assert!(told("cert_file = \"x\"").contains("listen.tls.cert_file needs listen.tls.key_file"));
    assert!(told("key_file = \"x\"").contains("listen.tls.key_file needs listen.tls.cert_file"));
    assert!(told("mode = \"require\"").contains("needs cert_file and key_file"));
    assert!(told("client_certs = \"require\"").contains("needs client_ca_file"));
    let missing = told("cert_file = \"/nowhere/x.crt\"\nkey_file = \"/nowhere/x.key\"");
    assert!(
        missing.contains("cannot use /nowhere/x.crt: No such file")
            && missing.contains("pgherd.toml:4:"),
        "{missing}"
    );
    let config = read(&tls(
        "mode = \"disable\"\ncert_file = \"/nowhere\"\nkey_file = \"/nowhere\"",
    ));
    assert_eq!(config.listen.tls.acceptor, None, "nobody reads them");
}
