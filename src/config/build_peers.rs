//! The other routers behind the same address.

use std::collections::BTreeMap;

use crate::cluster::{Address, Peers, RouterId};

use super::build::Builder;
use super::check::items;
use super::problem::Code;

impl Builder<'_> {
    pub(super) fn peers(&mut self) -> Peers {
        let number = u64::try_from(self.count("peers.id")).unwrap_or(u64::MAX);
        let own = RouterId::new(number);
        let Some(entry) = self.entry("peers.routers") else {
            return Peers::default();
        };
        let mut others = BTreeMap::new();
        for (index, text) in items(&entry.value).iter().enumerate() {
            let place = self.item_place(&entry, index);
            match router(text) {
                Err(message) => self.error(Code::NotAnAddress, place, message, None),
                Ok((id, address)) => {
                    if others.insert(id, address).is_some() {
                        let message = format!("two routers have the number of `{text}`");
                        self.error(Code::Duplicate, place, message, None);
                    }
                }
            }
        }
        if own.is_none() && !others.is_empty() {
            let message = "peers.routers needs peers.id: the number of this router".to_owned();
            self.error(Code::Conflict, entry.place.clone(), message, None);
        }
        // The same list may stand in the file of each router.
        others.retain(|id, _| Some(*id) != own);
        Peers { own, others }
    }
}

fn router(text: &str) -> Result<(RouterId, Address), String> {
    let Some((number, address)) = text.split_once('=') else {
        return Err(format!("`{text}` is not written as `NUMBER=host:port`"));
    };
    let number = number.trim().parse().ok().and_then(RouterId::new);
    let Some(id) = number else {
        let most = RouterId::MAX;
        return Err(format!("`{text}` has no number from 1 to {most}"));
    };
    let address = address.trim().parse::<Address>();
    address
        .map(|address| (id, address))
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load_text};

    /// The peers, or what is wrong.
    fn peers(text: &str) -> Result<Peers, String> {
        let text = format!("[cluster.main]\nhosts = [\"pg1\"]\n[peers]\n{text}\n");
        load_text("test.toml", &text, &Environment::from_pairs([]))
            .map(|(config, _)| config.peers)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn one_list_is_for_the_file_of_each_router() {
        let list = "routers = [\"1=a:6432\", \"2 = b:6432\"]";
        let first = peers(&format!("id = 1\n{list}")).unwrap();
        assert_eq!(first.own, RouterId::new(1));
        let second = RouterId::new(2).unwrap();
        let expected = BTreeMap::from([(second, "b:6432".parse().unwrap())]);
        assert_eq!(first.others, expected);
        let third = peers(&format!("id = 3\n{list}")).unwrap();
        assert_eq!(third.others.len(), 2);
    }

    #[test]
    fn a_router_is_alone_unless_it_is_told() {
        assert_eq!(peers("").unwrap(), Peers::default());
    }

    #[test]
    fn mistakes_are_told() {
        for (text, told) in [
            ("routers = [\"1=a:6432\"]", "needs peers.id"),
            ("id = 1\nrouters = [\"a:6432\"]", "NUMBER=host:port"),
            ("id = 1\nrouters = [\"0=a:6432\"]", "from 1 to 63"),
            ("id = 1\nrouters = [\"64=a:6432\"]", "from 1 to 63"),
            ("id = 1\nrouters = [\"2=a\", \"2=b\"]", "two routers"),
            ("id = 1\nrouters = [\"2=a:99999\"]", "99999"),
            ("id = 64", "63"),
        ] {
            let problems = peers(text).unwrap_err();
            assert!(problems.contains(told), "{text}: {problems}");
        }
    }
}
