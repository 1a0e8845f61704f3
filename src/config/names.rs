//! The name that somebody probably meant.

use super::table::SETTINGS;

/// What to say about a key that no row has.
pub(super) fn suggest(path: &[String]) -> String {
    let Some((wanted, table)) = path.split_last() else {
        return String::new();
    };
    let siblings = siblings(table);
    if let Some(name) = nearest(wanted, siblings.iter().copied()) {
        return format!("did you mean `{name}`?");
    }
    let elsewhere = SETTINGS
        .iter()
        .filter_map(|setting| setting.key.rsplit_once('.'))
        .find(|(_, name)| name == wanted);
    match elsewhere {
        Some((table, name)) => {
            format!(
                "`{name}` belongs in [{}]",
                table.replacen('*', "NAME", 1).replace('*', "NODE")
            )
        }
        None => format!("known here: {}", siblings.join(", ")),
    }
}

/// The names that may stand in a table.
fn siblings(table: &[String]) -> Vec<&'static str> {
    let mut names: Vec<_> = SETTINGS
        .iter()
        .filter(|setting| setting.covers(table))
        .filter_map(|setting| setting.key.split('.').nth(table.len()))
        .filter(|name| *name != "*")
        .collect();
    names.dedup();
    names
}

/// The nearest of some names, if it is near enough to be a typing error or another word for it.
pub(super) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (distance(wanted, name), name))
        .filter(|(distance, name)| {
            let longer = wanted.chars().count().max(name.chars().count());
            *distance <= longer.div_ceil(2)
        })
        .min()
        .map(|(_, name)| name)
}

/// How many letters must be inserted, removed or exchanged (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        let mut left = i + 1;
        for (to, above) in b.iter().zip(row.windows(2)) {
            let (diagonal, up) = match above {
                [diagonal, up] => (*diagonal, *up),
                _ => continue,
            };
            left = (left + 1)
                .min(up + 1)
                .min(diagonal + usize::from(from != *to));
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggest_for(key: &str) -> String {
        suggest(&key.split('.').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_key_is_compared_with_those_of_its_table() {
        assert_eq!(
            suggest_for("cluster.main.lag.max_lag"),
            "did you mean `max_time`?"
        );
        assert_eq!(suggest_for("listne"), "did you mean `listen`?");
        assert_eq!(suggest_for("monitor.password.fiel"), "did you mean `file`?");
    }

    #[test]
    fn a_key_in_the_wrong_table_is_sent_to_the_right_one() {
        assert_eq!(
            suggest_for("log.hold_clients"),
            "`hold_clients` belongs in [cluster.NAME.failover]"
        );
    }

    #[test]
    fn a_key_like_no_other_gets_the_list() {
        assert_eq!(
            suggest_for("listen.zzzzzzzzzzzz"),
            "known here: postgres, unix_socket_dir, unix_socket_mode, http, tls"
        );
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [("", "abc", 3), ("lag", "lag", 0), ("kitten", "sitting", 3)] {
            assert_eq!(distance(a, b), edits);
        }
    }
}
