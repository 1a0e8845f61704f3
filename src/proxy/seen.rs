//! What a session knows of the world: looked at with every message, and swapped rarely.

use std::fmt;
use std::sync::Arc;

use arc_swap::cache::Cache;
use arc_swap::{ArcSwap, ArcSwapOption};

use super::{Proxy, Settings};
use crate::cluster::Snapshot;
use crate::session::{Catalog, Rules, View};
use crate::upstream::Login;

/// The newest values, each kept until a newer one is there: looking costs one comparison. What is
/// kept is kept alive, so an idle session drops it.
pub(super) struct Seen {
    pub(super) snapshot: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    pub(super) settings: Cache<Arc<ArcSwap<Settings>>, Arc<Settings>>,
    pub(super) catalog: Cache<Arc<ArcSwapOption<Catalog>>, Option<Arc<Catalog>>>,
    pub(super) own: OwnRules,
}

/// The rules of a session that are not everybody's, worked out once for the settings.
#[derive(Default)]
pub(super) struct OwnRules(Option<(u32, Option<Box<Rules>>)>);

impl OwnRules {
    /// The rules of a session by these settings.
    pub(super) fn of<'a>(&'a mut self, settings: &'a Settings, login: &Login) -> &'a Rules {
        let all = &settings.session;
        if all.own.is_empty() {
            return all;
        }
        if self
            .0
            .as_ref()
            .is_none_or(|(stamp, _)| *stamp != settings.stamp)
        {
            let own = all.own_of(&login.user, &login.database);
            self.0 = Some((settings.stamp, own.map(Box::new)));
        }
        match &self.0 {
            Some((_, Some(own))) => own,
            _ => all,
        }
    }
}

/// The number for judgements by these settings and this catalog. A catalog's stamp is not zero.
pub(super) fn view(settings: &Settings, catalog: Option<&Catalog>) -> View {
    let catalog = catalog.map_or(0, |catalog| catalog.stamp);
    View::from(settings.stamp) << 32 | View::from(catalog)
}

impl Seen {
    #[inline(never)]
    pub(super) fn new(proxy: &Proxy, catalog: &Arc<ArcSwapOption<Catalog>>) -> Self {
        Self {
            snapshot: Cache::new(Arc::clone(&proxy.snapshot)),
            settings: Cache::new(Arc::clone(&proxy.settings)),
            catalog: Cache::new(Arc::clone(catalog)),
            own: OwnRules::default(),
        }
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}
