//! What a member of a deployment answers: page and API of each group that it folds at `/groups/NAME/`, and at the root where there is but
//! one group; `/readyz` and `/metrics` of all of them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use vigie_aggregator::clock::wall_now;
use vigie_aggregator::expose::expose;
use vigie_aggregator::live::Region;
use vigie_contract::metric::{Exposition, Kind, Metric};
use vigie_kafka::{Health, Settings, Trouble};

use crate::manager::{Pulse, Standing};

const TROUBLE: Metric = Metric {
    name: "vigie_kafka_trouble",
    help: "1 while this client of Kafka does not work for this reason; what Kafka says is in the log and on /readyz.",
    kind: Kind::Gauge,
    labels: &["client", "trouble"],
};
/// What a member says that has groups, and shows none of them yet.
pub(crate) const STARTING: &str = "starting";
/// What a member says that has none.
pub(crate) const STANDBY: &str = "standby: other members of the deployment fold all groups";
const OWNED: Metric = Metric {
    name: "vigie_group_owned",
    help: "1 if this process folds the log of the group, 0 if another member of its deployment does, or nobody yet.",
    kind: Kind::Gauge,
    labels: &["group"],
};

/// What a member of a deployment exports besides.
pub(crate) const METRICS: &[Metric] = &[TROUBLE, OWNED];

/// The metrics of clients of Kafka.
pub(crate) fn kafka_metrics(clients: &[(&str, Option<(Trouble, String)>)]) -> String {
    let mut out = Exposition::default();
    for (client, trouble) in clients {
        for kind in Trouble::ALL {
            let is = trouble.as_ref().is_some_and(|(trouble, _)| *trouble == kind);
            out.put(&TROUBLE, &[client, kind.as_str()], f64::from(u8::from(is)));
        }
    }
    out.into_text()
}

/// What this process answers.
pub(crate) struct Shown {
    groups: Vec<String>,
    state: RwLock<ShownState>,
}

/// What is shown of a group.
struct Fold {
    /// For [`Shown::hide`].
    number: u64,
    region: Arc<Region>,
    router: Router,
    pulse: Pulse,
}

impl Fold {
    /// Why nothing of it may be trusted.
    fn stale(&self) -> Option<&'static str> {
        Some(self.region.view().staleness(wall_now())?.cause.as_str())
    }
}

#[derive(Default)]
struct ShownState {
    folds: BTreeMap<String, Fold>,
    shown: u64,
    healths: BTreeMap<String, Health>,
    waits_for: String,
}

impl Shown {
    pub(crate) fn new(settings: &Settings, producer: Health) -> Self {
        let state = ShownState { healths: BTreeMap::from([("producer".to_owned(), producer)]), ..ShownState::default() };
        Self { groups: settings.groups.clone(), state: RwLock::new(ShownState { waits_for: STARTING.to_owned(), ..state }) }
    }

    fn change(&self, change: impl FnOnce(&mut ShownState)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn read<T>(&self, look: impl FnOnce(&ShownState) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn wait_for(&self, why: &str) {
        tracing::warn!("{why}");
        self.joined(why);
    }

    pub(crate) fn joined(&self, words: &str) {
        self.change(|state| words.clone_into(&mut state.waits_for));
    }

    pub(crate) fn watch(&self, client: &str, health: Health) {
        self.change(|state| drop(state.healths.insert(client.to_owned(), health)));
    }

    /// Shows a fold; the number is for [`Self::hide`].
    pub(crate) fn show(&self, region: Arc<Region>, router: Router, health: Health, pulse: Pulse) -> u64 {
        let mut number = 0;
        self.change(|state| {
            state.shown += 1;
            number = state.shown;
            let group = region.group.clone();
            state.healths.insert(format!("log {group}"), health);
            state.folds.insert(group, Fold { number, region, router, pulse });
        });
        number
    }

    /// A partition may be back before the fold that lost it has ended: what another has shown since stays.
    pub(crate) fn hide(&self, group: &str, number: u64) {
        self.change(|state| {
            if state.folds.get(group).is_some_and(|fold| fold.number == number) {
                state.folds.remove(group);
                state.healths.remove(&format!("log {group}"));
            }
        });
    }

    pub(crate) fn router(self: &Arc<Self>) -> Router {
        let (shown, ready, metrics) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(move || async move { ready.readyz() }))
            .route("/metrics", get(move || async move { metrics.metrics() }))
            .fallback(move |request: Request| async move { shown.answer(request).await })
    }

    /// The router that a path is for, and the path as it knows it: `/groups/NAME/…` is the group's, and so is anything where there is but one.
    fn route(&self, uri: &Uri) -> Option<(Router, String)> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        if let Some((group, rest)) = path.strip_prefix("/groups/").map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
            return Some((state.folds.get(group)?.router.clone(), format!("/{rest}")));
        }
        let [only] = self.groups.as_slice() else { return None };
        Some((state.folds.get(only)?.router.clone(), path.to_owned()))
    }

    async fn answer(&self, mut request: Request) -> Response {
        let Some((router, path)) = self.route(request.uri()) else { return self.no_group(request.uri().path()) };
        if let Ok(uri) = path.parse() {
            *request.uri_mut() = uri;
        }
        match TowerToHyperService::new(router).call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// The answer where no group's would be right.
    fn no_group(&self, path: &str) -> Response {
        if self.groups.len() == 1 || path.starts_with("/groups/") {
            return self.standby();
        }
        if path == "/" { Html(self.index()).into_response() } else { (StatusCode::NOT_FOUND, self.directory()).into_response() }
    }

    fn standby(&self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, self.read(|state| format!("{}\n", state.waits_for))).into_response()
    }

    /// Where the groups are, for programs.
    fn directory(&self) -> String {
        let paths: Vec<String> = self.groups.iter().map(|group| format!("/groups/{group}/\n")).collect();
        format!("there are several groups, each with a page and an API of its own:\n{}", paths.concat())
    }

    /// Where the groups are, for people: one that is folded here is a link, with what keeps it from being trusted.
    fn index(&self) -> String {
        let line = |group: &String, fold: Option<&Fold>| match fold {
            None => format!("<li>{group} (another member folds it, or nobody; un autre membre le plie, ou personne)</li>"),
            Some(fold) => {
                let stale = fold.stale().map_or_else(String::new, |cause| format!(": {cause}"));
                format!("<li><a href=\"/groups/{group}/\">{group}</a>{stale}</li>")
            }
        };
        let lines = self.read(|state| self.groups.iter().map(|group| line(group, state.folds.get(group))).collect::<String>());
        format!("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>vigie</title><h1>vigie</h1><ul>{lines}</ul></html>\n")
    }

    fn troubles(&self) -> Vec<(String, Option<(Trouble, String)>)> {
        self.read(|state| state.healths.iter().map(|(client, health)| (client.clone(), health.trouble())).collect())
    }

    /// Ends when every fold has answered, at once unless one hangs.
    pub(crate) async fn is_alive(&self) -> bool {
        let pulses: Vec<Pulse> = self.read(|state| state.folds.values().map(|fold| fold.pulse.clone()).collect());
        for pulse in pulses {
            pulse.felt().await;
        }
        true
    }

    /// Started when all that it folds can be trusted for the first time, or when others of its deployment fold everything.
    pub(crate) fn standing(&self) -> Standing {
        let unready = self.unready();
        let has_started = unready.as_deref().is_none_or(|words| words == STANDBY);
        Standing { has_started, ..Standing::of(unready.as_deref()) }
    }

    fn readyz(&self) -> Response {
        match self.unready() {
            None => "ready\n".into_response(),
            Some(words) => (StatusCode::SERVICE_UNAVAILABLE, words + "\n").into_response(),
        }
    }

    /// `None` when every group that is folded here is ready, and there is one; otherwise why not, with what Kafka says where it is in
    /// trouble.
    fn unready(&self) -> Option<String> {
        let mut words = self.read(|state| match state.folds.len() {
            0 => vec![state.waits_for.clone()],
            _ => {
                let name = |group: &str| if self.groups.len() == 1 { String::new() } else { format!("group {group}: ") };
                let stale = |fold: &Fold| Some(name(&fold.region.group) + fold.stale()?);
                state.folds.values().filter_map(stale).collect()
            }
        });
        if words.is_empty() {
            return None;
        }
        let troubles = self.troubles().into_iter().filter_map(|(client, trouble)| Some((client, trouble?)));
        words.extend(troubles.map(|(client, (trouble, reason))| format!("kafka {client}: {}: {reason}", trouble.as_str())));
        Some(words.join("\n"))
    }

    /// Of all groups that are folded here, as they come and go: one place to scrape.
    fn metrics(&self) -> Response {
        let troubles = self.troubles();
        let clients: Vec<_> = troubles.iter().map(|(client, trouble)| (client.as_str(), trouble.clone())).collect();
        let (mut text, mut out) = (String::new(), Exposition::default());
        self.read(|state| {
            text = expose(state.folds.values().map(|fold| &*fold.region), wall_now());
            for group in &self.groups {
                out.put(&OWNED, &[group], f64::from(u8::from(state.folds.contains_key(group))));
            }
        });
        text.push_str(&kafka_metrics(&clients));
        text.push_str(&out.into_text());
        ([(CONTENT_TYPE, Exposition::CONTENT_TYPE)], text).into_response()
    }
}
