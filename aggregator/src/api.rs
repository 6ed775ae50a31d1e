//! The HTTP side of an aggregator: `/api/v1`, `/metrics`, `/healthz`, `/readyz`, the page, and the ingest of remote probes.
//!
//! Readers get what the engine knows and decide nothing. `openapi.json` describes every answer; a test compares them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::header::{ACCEPT_LANGUAGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream::{Stream, unfold};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use vigie_contract::catalogue::ServiceIx;
use vigie_contract::metric::Exposition;
use vigie_contract::{Month, Span, Time, VantageId};

use crate::clock::wall_now;
use crate::core::engine::Engine;
use crate::core::interval::Intervals;
use crate::core::line::{AccountLine, WindowLine};
use crate::core::state::State as Level;
use crate::core::window::Status as WindowStatus;
use crate::explain::{self, Language};
use crate::expose::expose;
use crate::ingest::{IngestError, MOST_BYTES, Tokens, ingest};
use crate::live::{Region, source_chain};
use crate::port::{AppendError, EvidenceLog};

/// How often the live page learns of the state.
const BEAT: Duration = Duration::from_secs(1);
/// The body of a request that takes longer is not waited for.
const SLOWEST_BODY: Duration = Duration::from_secs(30);
/// A picture of a window has at most so many samples per target and vantage; the rest is left out of the middle.
const MOST_SAMPLES: usize = 2_000;
/// Scripts and styles are our own files, and nothing else is loaded.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// So many event streams are open at a time: half of the connections that a program serves.
const MOST_STREAMS: usize = 256;

/// What the routes share.
pub struct Api<L> {
    region: Arc<Region>,
    log: Arc<L>,
    tokens: Tokens,
    notice: Option<String>,
    status: watch::Sender<Arc<str>>,
    /// Becomes true when the program ends: so do streams, then.
    stop: watch::Receiver<bool>,
    /// More metrics for `/metrics`: those of a probe in the same process.
    probe_metrics: Option<Box<dyn Fn() -> String + Send + Sync>>,
}

impl<L: EvidenceLog + 'static> Api<L> {
    /// Over `region`; remote probes append to `log` with one of `tokens`. Streams end when `stop` becomes true.
    #[must_use]
    pub fn new(region: Arc<Region>, log: Arc<L>, tokens: Tokens, notice: Option<String>, stop: watch::Receiver<bool>) -> Self {
        Self { region, log, tokens, notice, status: watch::Sender::new("".into()), stop, probe_metrics: None }
    }

    /// Adds the metrics of a probe in the same process.
    #[must_use]
    pub fn with_probe_metrics(mut self, metrics: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.probe_metrics = Some(Box::new(metrics));
        self
    }

    /// All routes. Inside a runtime: a task of it keeps live readers informed.
    pub fn router(self) -> Router {
        let api = Arc::new(self);
        let beating = Arc::clone(&api);
        tokio::spawn(async move {
            loop {
                if beating.status.receiver_count() > 0 {
                    beating.status.send_replace(beating.status_json().into());
                }
                tokio::time::sleep(BEAT).await;
            }
        });
        Router::new()
            .route("/", get(page))
            .route("/page.css", get(|| async { asset("text/css; charset=utf-8", include_str!("../page/page.css")) }))
            .route("/page.js", get(|| async { asset("text/javascript; charset=utf-8", include_str!("../page/page.js")) }))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz::<L>))
            .route("/metrics", get(metrics::<L>))
            .route("/api/v1/openapi.json", get(|| async { asset("application/json", include_str!("../openapi.json")) }))
            .route("/api/v1/status", get(status::<L>))
            .route("/api/v1/events", get(events::<L>))
            .route("/api/v1/windows", get(windows::<L>))
            .route("/api/v1/windows/{id}", get(window::<L>))
            .route("/api/v1/windows/{id}/explanation", get(window_explanation::<L>))
            .route("/api/v1/windows/{id}/samples", get(window_samples::<L>))
            .route("/api/v1/services", get(services::<L>))
            .route("/api/v1/targets", get(targets::<L>))
            .route("/api/v1/accounts", get(accounts::<L>))
            .route("/api/v1/latencies", get(latencies::<L>))
            .route("/api/v1/claims", get(claims::<L>))
            .route("/api/v1/exclusions", get(exclusions::<L>))
            .route("/api/v1/timeline", get(timeline::<L>))
            .route("/api/v1/explanation", get(explanation::<L>))
            .route("/api/v1/evidence", post(evidence::<L>).layer(DefaultBodyLimit::max(MOST_BYTES)))
            .fallback(|| async { Refused::not_found("there is nothing here: /api/v1/openapi.json lists what there is") })
            .with_state(api)
    }

    fn status_json(&self) -> String {
        let view = self.region.view();
        // Plain data with text for keys: nothing in it can fail to be written.
        serde_json::to_string(&view.status(wall_now(), self.notice.as_deref())).unwrap_or_default()
    }
}

type Shared<L> = State<Arc<Api<L>>>;

/// An error as readers get it.
struct Refused(StatusCode, String);

impl Refused {
    fn not_found(why: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, why.into())
    }

    fn bad(why: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, why.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, no_store(), Json(json!({ "error": self.1 }))).into_response()
    }
}

/// The part of a request after the question mark; what is wrong with it is told as every other error.
struct Asked<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let asked = Query::<T>::from_request_parts(parts, state).await;
        asked.map(|Query(asked)| Self(asked)).map_err(|rejection| Refused::bad(rejection.body_text()))
    }
}

fn no_store() -> [(axum::http::HeaderName, HeaderValue); 2] {
    [(CACHE_CONTROL, HeaderValue::from_static("no-store")), (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))]
}

fn answer(value: Value) -> Response {
    (no_store(), Json(value)).into_response()
}

/// An answer as of a frontier, with what is to be known of its trust.
fn dated<L>(api: &Api<L>, frontier: Option<Time>, mut value: Value) -> Response {
    value["frontier_us"] = json!(frontier.map(Time::us));
    value["stale"] = json!(api.region.view().staleness(wall_now()));
    answer(value)
}

/// The instant up to which everything is evaluated, if anything is.
fn frontier(engine: &Engine) -> Option<Time> {
    Some(engine.frontier()).filter(|frontier| *frontier >= Time::EARLIEST)
}

fn asset(media_type: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static(media_type))], no_store(), text).into_response()
}

async fn page(headers: HeaderMap) -> Response {
    let language = match preferred(&headers) {
        Language::French => "fr",
        Language::English => "en",
    };
    let text = include_str!("../page/index.html").replacen("<html lang=\"en\">", &format!("<html lang=\"{language}\">"), 1);
    let headers =
        [(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")), (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY))];
    (headers, no_store(), text).into_response()
}

/// The process answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// What is shown may be trusted.
async fn readyz<L: EvidenceLog + 'static>(State(api): Shared<L>) -> Response {
    match api.region.view().staleness(wall_now()) {
        None => "ready\n".into_response(),
        Some(stale) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", stale.cause.as_str())).into_response(),
    }
}

async fn metrics<L: EvidenceLog + 'static>(State(api): Shared<L>) -> Response {
    let mut text = expose([&*api.region], wall_now());
    if let Some(probe) = &api.probe_metrics {
        text.push_str(&probe());
    }
    ([(CONTENT_TYPE, HeaderValue::from_static(Exposition::CONTENT_TYPE))], text).into_response()
}

async fn status<L: EvidenceLog + 'static>(State(api): Shared<L>) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], no_store(), api.status_json()).into_response()
}

/// Pages that are left open shall not take the connections that samples come by.
async fn events<L: EvidenceLog + 'static>(State(api): Shared<L>) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refused> {
    if api.status.receiver_count() >= MOST_STREAMS {
        let why = format!("{MOST_STREAMS} streams are open already: ask /api/v1/status instead");
        return Err(Refused(StatusCode::SERVICE_UNAVAILABLE, why));
    }
    let mut states = api.status.subscribe();
    states.mark_changed();
    let first = Some(api.status_json());
    let stream = unfold((states, first, api.stop.clone()), |(mut states, first, mut stop)| async move {
        let text = match first {
            Some(first) => {
                states.mark_unchanged();
                first
            }
            None => {
                tokio::select! {
                    changed = states.changed() => changed.ok()?,
                    _ = stop.wait_for(|stop| *stop) => return None,
                }
                states.borrow_and_update().to_string()
            }
        };
        Some((Ok(Event::default().event("status").data(text)), (states, None, stop)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

/// What most lists can be narrowed by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    month: Option<String>,
    service: Option<String>,
    status: Option<String>,
}

/// The service that is asked for, or all.
fn chosen(engine: &Engine, service: Option<&str>) -> Result<Vec<ServiceIx>, Refused> {
    let services = engine.catalogue().map(|catalogue| catalogue.services.as_slice()).unwrap_or_default();
    match service {
        None => Ok((0..services.len()).collect()),
        Some(id) => match services.iter().position(|service| service.id.as_str() == id) {
            Some(ix) => Ok(vec![ix]),
            None => Err(Refused::not_found(format!("there is no service `{id}`: /api/v1/services lists them"))),
        },
    }
}

/// The month that is asked for and its bounds, or that of the frontier.
fn bounds(engine: &Engine, month: Option<&str>) -> Result<(Month, Time, Time), Refused> {
    let Some(catalogue) = engine.catalogue() else { return Err(Refused::not_found("no catalogue is in force yet")) };
    let month = match month {
        Some(text) => Month::parse(text).ok_or_else(|| Refused::bad(format!("`{text}` is no month: write 2026-11")))?,
        None if engine.frontier() < Time::EARLIEST => return Err(Refused::not_found("nothing is evaluated yet")),
        None => catalogue.calendar.month_of(engine.frontier()),
    };
    Ok((month, catalogue.calendar.start_of(month), catalogue.calendar.end_of(month)))
}

async fn windows<L: EvidenceLog + 'static>(State(api): Shared<L>, Asked(filter): Asked<Filter>) -> Result<Response, Refused> {
    let engine = api.region.engine();
    let wanted = match filter.status.as_deref() {
        None => None,
        Some("open") => Some(false),
        Some("closed") => Some(true),
        Some(other) => return Err(Refused::bad(format!("`{other}` is no status: write open or closed"))),
    };
    let services = chosen(&engine, filter.service.as_deref())?;
    let month = filter.month.as_deref().map(|month| bounds(&engine, Some(month))).transpose()?;
    let mut lines: Vec<WindowLine> = services.into_iter().flat_map(|service| engine.window_lines(service)).collect();
    lines.retain(|window| {
        let end = window.end_us.unwrap_or(engine.frontier().us());
        let meets = month.is_none_or(|(_, start, stop)| window.onset_us < stop.us() && end > start.us());
        meets && wanted.is_none_or(|closed| closed == (window.status == WindowStatus::Closed))
    });
    lines.sort_by_key(|window| (-window.onset_us, window.service.clone()));
    Ok(dated(&api, frontier(&engine), json!({ "windows": lines })))
}

fn find(engine: &Engine, id: &str) -> Result<(ServiceIx, WindowLine), Refused> {
    let services = 0..engine.catalogue().map_or(0, |catalogue| catalogue.services.len());
    let mut all = services.flat_map(|service| engine.window_lines(service).into_iter().map(move |window| (service, window)));
    all.find(|(_, window)| window.id == id)
        .ok_or_else(|| Refused::not_found(format!("there is no window `{id}`, or evidence that came late has taken it back")))
}

async fn window<L: EvidenceLog + 'static>(State(api): Shared<L>, Path(id): Path<String>) -> Result<Response, Refused> {
    let (_, line) = find(&api.region.engine(), &id)?;
    Ok(answer(json!(line)))
}

/// In which words, and about what.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    lang: Option<String>,
    service: Option<String>,
    at: Option<String>,
}

impl Words {
    fn language(&self, headers: &HeaderMap) -> Result<Language, Refused> {
        match self.lang.as_deref() {
            Some("fr") => Ok(Language::French),
            Some("en") => Ok(Language::English),
            Some(other) => Err(Refused::bad(format!("`{other}` is no language of ours: write fr or en"))),
            None => Ok(preferred(headers)),
        }
    }
}

/// French if it is asked for before English.
fn preferred(headers: &HeaderMap) -> Language {
    let accepted = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut weighted: Vec<(i32, &str)> = Vec::new();
    for part in accepted.split(',') {
        let (tag, weight) = part.split_once(";q=").unwrap_or((part, "1"));
        let weight = weight.trim().parse::<f32>().unwrap_or(0.0);
        weighted.push(((-weight * 1000.0) as i32, tag.trim()));
    }
    weighted.sort_by_key(|(weight, _)| *weight);
    let known = weighted.iter().find(|(_, tag)| tag.starts_with("fr") || tag.starts_with("en"));
    if known.is_some_and(|(_, tag)| tag.starts_with("fr")) { Language::French } else { Language::English }
}

async fn window_explanation<L: EvidenceLog + 'static>(
    State(api): Shared<L>,
    Path(id): Path<String>,
    Asked(words): Asked<Words>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let language = words.language(&headers)?;
    let engine = api.region.engine();
    find(&engine, &id)?;
    let story = explain::window(&engine, &id).ok_or_else(|| Refused::not_found(format!("window `{id}` cannot be explained any more")))?;
    Ok(dated(&api, frontier(&engine), json!({ "words": story.in_words(language), "story": story })))
}

async fn explanation<L: EvidenceLog + 'static>(
    State(api): Shared<L>,
    Asked(words): Asked<Words>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let language = words.language(&headers)?;
    let (Some(service), Some(at)) = (words.service.as_deref(), words.at.as_deref()) else {
        return Err(Refused::bad("say which `service`, and `at` which time"));
    };
    let at = Time::parse(at).ok_or_else(|| Refused::bad(format!("`{at}` is no instant: write 2026-11-03T10:00:00Z or microseconds")))?;
    let engine = api.region.engine();
    chosen(&engine, Some(service))?;
    let moment = explain::moment(&engine, service, at).ok_or_else(|| Refused::not_found(format!("there is no service `{service}`")))?;
    Ok(dated(&api, frontier(&engine), json!({ "words": moment.in_words(language), "moment": moment })))
}

fn pairs(intervals: &Intervals) -> Vec<(i64, i64)> {
    intervals.iter().map(|(start, end)| (start.us(), end.us())).collect()
}

/// The evidence around a window: samples, gates and what the quorum made of them, as far back as samples are kept.
async fn window_samples<L: EvidenceLog + 'static>(State(api): Shared<L>, Path(id): Path<String>) -> Result<Response, Refused> {
    let engine = api.region.engine();
    let (service, line) = find(&engine, &id)?;
    let Some(catalogue) = engine.catalogue() else { return Err(Refused::not_found("no catalogue is in force")) };
    let onset = Time::from_us(line.onset_us);
    let end = line.end_us.map_or(engine.frontier(), Time::from_us);
    let reached = &engine.reach(service).targets;
    let margin = |target: &usize| catalogue.targets[*target].plan.at(onset).period.unwrap_or(Span::from_secs(10));
    let around = Span::from_us(4 * reached.iter().map(margin).max().unwrap_or(Span::from_secs(10)).us());
    let (from, to) = (onset - around, (end + around).min(engine.frontier()));
    let (mut of_vantages, mut of_targets) = (Vec::new(), Vec::new());
    for &target in reached {
        let definition = &catalogue.targets[target];
        let plan = definition.plan.at(onset);
        for &vantage in &plan.vantages {
            let sample = |entry: crate::core::track::Entry| {
                json!({ "stamp_us": entry.stamp.us(), "outcome": entry.outcome, "latency_us": entry.latency.map(Span::us),
                        "run": engine.run_name(entry.run), "seq": entry.seq })
            };
            let mut samples: Vec<Value> = engine.samples(target, vantage, from, to).map(sample).collect();
            let left_out = samples.len().saturating_sub(MOST_SAMPLES);
            if left_out > 0 {
                samples.drain(MOST_SAMPLES / 2..MOST_SAMPLES / 2 + left_out);
            }
            let gates = Intervals::union_of(engine.gates(vantage)).cut(from, to);
            of_vantages.push(json!({ "target": definition.id, "vantage": catalogue.vantages[vantage].id, "samples": samples,
                                     "left_out": left_out, "gates": pairs(&gates) }));
        }
        let of = |state: Level| {
            let pieces = engine.levels(target).pieces(from, to).filter(|(_, _, level)| level.dated == state);
            pairs(&Intervals::union_of(pieces.map(|(start, end, _)| (start, end))))
        };
        of_targets.push(json!({ "id": definition.id, "quorum": plan.down_quorum, "of": plan.vantages.len(),
                                "down": of(Level::Down), "unknown": of(Level::Unknown) }));
    }
    Ok(answer(json!({ "from_us": from.us(), "to_us": to.us(), "vantages": of_vantages, "targets": of_targets })))
}

/// One part of the status.
fn part<L: EvidenceLog + 'static>(api: &Api<L>, name: &str) -> Response {
    let view = api.region.view();
    let mut whole = json!(view.status(wall_now(), None));
    answer(json!({ "frontier_us": whole["frontier_us"].take(), "stale": whole["stale"].take(), name: whole[name].take() }))
}

async fn services<L: EvidenceLog + 'static>(State(api): Shared<L>) -> Response {
    part(&api, "services")
}

async fn targets<L: EvidenceLog + 'static>(State(api): Shared<L>) -> Response {
    part(&api, "targets")
}

/// What was promised for the month of an account, in percent.
fn objective(engine: &Engine, account: &AccountLine) -> Option<String> {
    let catalogue = engine.catalogue()?;
    let start = catalogue.calendar.start_of(Month::parse(&account.month)?);
    let indicator = catalogue.indicators.iter().find(|indicator| indicator.id == account.indicator)?;
    Some(indicator.terms.at(start).objective_percent())
}

async fn accounts<L: EvidenceLog + 'static>(State(api): Shared<L>, Asked(filter): Asked<Filter>) -> Result<Response, Refused> {
    let engine = api.region.engine();
    let services = chosen(&engine, filter.service.as_deref())?;
    let month = filter.month.as_deref().map(|month| bounds(&engine, Some(month))).transpose()?.map(|(month, _, _)| month.to_string());
    let mut lines: Vec<_> = services.into_iter().flat_map(|service| engine.account_lines(service)).collect();
    lines.retain(|account| month.as_ref().is_none_or(|month| account.month == *month));
    let with_objective = |account: &AccountLine| {
        let mut line = json!(account);
        line["objective"] = json!(objective(&engine, account));
        line
    };
    Ok(dated(&api, frontier(&engine), json!({ "accounts": lines.iter().map(with_objective).collect::<Vec<_>>() })))
}

async fn latencies<L: EvidenceLog + 'static>(State(api): Shared<L>) -> Response {
    let view = api.region.view();
    dated(&api, view.frontier, json!({ "latencies": view.latencies }))
}

async fn claims<L: EvidenceLog + 'static>(State(api): Shared<L>) -> Response {
    let engine = api.region.engine();
    let line = |claim: &vigie_contract::Claim| {
        json!({ "id": claim.id, "rev": claim.rev, "service": claim.service, "opened_us": claim.opened_at.us(), "state": claim.state,
                "resolved_us": claim.resolved_at.map(Time::us), "actor": claim.actor, "reason": claim.reason })
    };
    dated(&api, frontier(&engine), json!({ "claims": engine.claims().map(line).collect::<Vec<_>>() }))
}

async fn exclusions<L: EvidenceLog + 'static>(State(api): Shared<L>) -> Response {
    let engine = api.region.engine();
    let highest = engine.exclusions().filter_map(|revisions| revisions.values().next_back());
    let line = |revision: &crate::core::account::Revision| {
        let exclusion = &revision.exclusion;
        json!({ "id": exclusion.id, "rev": exclusion.rev, "kind": exclusion.kind, "services": exclusion.services,
                "start_us": exclusion.start.us(), "end_us": exclusion.end.us(), "state": exclusion.state,
                "approved_by": exclusion.approved_by, "override_by": exclusion.override_by, "reason": exclusion.reason,
                "appended_us": revision.appended_at.us() })
    };
    dated(&api, frontier(&engine), json!({ "exclusions": highest.map(line).collect::<Vec<_>>() }))
}

async fn timeline<L: EvidenceLog + 'static>(State(api): Shared<L>, Asked(filter): Asked<Filter>) -> Result<Response, Refused> {
    let engine = api.region.engine();
    let (month, start, end) = bounds(&engine, filter.month.as_deref())?;
    let services = chosen(&engine, filter.service.as_deref())?;
    let catalogue = engine.catalogue();
    let line = |service: ServiceIx| {
        let published = engine.published_within(service, start, end);
        let supervised = engine.with_view(service, |view| view.supervised_down(start, end)).unwrap_or_default();
        let unknown = engine.with_view(service, |view| view.unknown(start, end)).unwrap_or_default().cut(start, end);
        let clock = engine.with_view(service, |view| view.clock);
        let measured = clock.and_then(|clock| Some((clock.since?.max(start), clock.stop().min(end)))).filter(|(from, to)| from < to);
        json!({
            "id": catalogue.map(|catalogue| &catalogue.services[service].id),
            "measured": measured.map(|(from, to)| (from.us(), to.us())),
            "down": pairs(&published),
            "claimed": pairs(&published.without(&supervised)),
            "unknown": pairs(&unknown.without(&published)),
            "excluded": pairs(&engine.excluded(service, start).cut(start, end)),
        })
    };
    let lines: Vec<_> = services.into_iter().map(line).collect();
    let value = json!({ "month": month.to_string(), "start_us": start.us(), "end_us": end.us(), "services": lines });
    Ok(dated(&api, frontier(&engine), value))
}

/// The vantage whose token the request bears; without one, nothing of its body is read.
struct Speaker(VantageId);

impl<L: EvidenceLog + 'static> FromRequestParts<Arc<Api<L>>> for Speaker {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api<L>>) -> Result<Self, Refused> {
        let authorization = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let vantage = api.tokens.vantage(authorization).cloned();
        vantage.map(Self).ok_or_else(|| Refused(StatusCode::UNAUTHORIZED, "this token speaks for no vantage".to_owned()))
    }
}

async fn read_body(request: Request) -> Result<Bytes, Refused> {
    match tokio::time::timeout(SLOWEST_BODY, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) => Err(Refused(rejection.status(), rejection.body_text())),
        Err(_) => Err(Refused(StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {} s", SLOWEST_BODY.as_secs()))),
    }
}

/// The ingest of remote probes.
async fn evidence<L: EvidenceLog + 'static>(
    State(api): Shared<L>,
    Speaker(vantage): Speaker,
    request: Request,
) -> Result<Response, Refused> {
    let body = read_body(request).await?;
    let taken = ingest(&*api.log, &vantage, &body).await;
    match &taken {
        // An empty request appends nothing, and tells nothing about the log.
        Ok((0, _)) => {}
        Ok((records, _)) => api.region.note_append(*records as u64, true),
        Err(IngestError::Log(AppendError::Unavailable(_) | AppendError::Forbidden(_))) => api.region.note_append(1, false),
        Err(_) => {}
    }
    match taken {
        Ok((records, appended_at)) => {
            Ok(answer(json!({ "records": records, "appended_at_us": appended_at.unwrap_or_else(wall_now).us() })))
        }
        Err(IngestError::Unfit { record, why }) => Err(Refused(StatusCode::UNPROCESSABLE_ENTITY, format!("record {record}: {why}"))),
        Err(error @ IngestError::TooMany) => Err(Refused(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())),
        Err(error @ IngestError::Log(_)) => Err(Refused(StatusCode::SERVICE_UNAVAILABLE, source_chain(&error))),
    }
}
