//! `kind = "console"`: a journey through a web console ends where a person's would.
//!
//! A journey is `steps`: each gets a page, or posts a form as a browser does, follows redirections, and expects a status and a marker. What
//! a page says may be kept and sent along later: `{name}`, in an address or a form, is what an earlier step extracted under that name; an
//! address that is nothing but `{name}` is where a page says that its form goes. Cookies last for the journey. Each request has a
//! connection of its own, so that none can blame one that the server has meanwhile closed. Redirections lead to the endpoint's host or one
//! of `hosts`, at most `redirects` of them in a step, and never from TLS to plain text.
//!
//! A login is a step with `secrets`. A second factor or an identity provider is not attempted: the account is a local one, of its own, with
//! the least rights. It is tried once a period, twice if the first attempt fails: choose one at which a wrong password locks nothing.
//!
//! ```toml
//! [target.check]
//! kind = "console"
//! endpoint = "https://console.example"
//!
//! [[target.check.steps]]
//! name = "page"
//! get = "/login"
//! marker = "Sign in"
//! extract.csrf = { input = "_csrf" }
//!
//! [[target.check.steps]]
//! name = "login"
//! post = "/login"
//! form = { _csrf = "{csrf}", user = "canary" }
//! secrets.password = { file = "/run/secrets/console" }
//! refused = ["account is locked"]
//! marker = "Dashboard"
//! ```
//!
//! | what is seen | outcome, reason | phase |
//! |---|---|---|
//! | every step ends with a status and a marker that it expects | ok | |
//! | no address, no connection, no TLS, no answer in time | as every check: dns, refused, unreachable, tls, timeout … | resolve, connect, tls, processing, transfer |
//! | a certificate that has expired, or is not the host's | fail tls | tls |
//! | the connection is reset or ends, and no request of the attempt was answered: first attempt | fail reset | connect, tls, processing |
//! | the same: second attempt; see below | void address | connect, tls, processing |
//! | the connection ends later, or within an answer | fail reset | connect, tls, processing, transfer |
//! | what is no HTTP; a redirection to what is no URL, or to one with a user in it | fail protocol | processing, transfer |
//! | 5xx, or another status that no step expects and no row names | fail status | transfer |
//! | more than `redirects` redirections; one from TLS to plain text | fail status | transfer |
//! | a status that is expected, but no marker, or nothing to extract | fail content | transfer |
//! | 429 | void throttled | transfer |
//! | 401, 423; 403 once a secret was sent | void credential | transfer |
//! | 403 before | void address | transfer |
//! | a login is answered with one of its texts `refused`; or, without its marker, with a form that asks for a password or a code | void credential | transfer |
//! | any other 4xx: we ask wrongly | void request | transfer |
//! | a redirection to another host, once a secret was sent; or one of OAuth or SAML (`client_id`, `SAMLRequest`) | void credential | transfer |
//! | any other redirection to another host: for good (301, 308) | void request | transfer |
//! | the same, for now: whoever comes for the console is sent away | fail status | transfer |
//!
//! A form that asks for a password *after* a login that had its marker is a session that the console has lost: fail content.
//!
//! # An address that is not on the white list
//!
//! What it sees is not documented: 403, a reset, or silence. One check sees from one address, so it cannot tell whether others are let in.
//! 403 says that somebody is there and refuses us: always void. A reset before the first answer is what a firewall does to strangers, and a
//! dead load balancer to everybody: void, unless the catalogue says `reset = "fail"`. That is for targets which two vantages measure, by
//! addresses that are listed each by itself, and whose quorum is two: then it is the second address that confirms, and one that was taken
//! off the list makes no window. Somebody who was answered once in an attempt is on the list, so what is reset later fails. Silence and a
//! connection that is refused fail as everywhere: a dead host is not told from a mute one, and again the quorum confirms.
//!
//! Latency is that of the whole journey, connecting included. The phases are sums over all requests.

mod jar;
mod page;
mod template;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::truth;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, COOKIE, HOST, HeaderValue, LOCATION, ORIGIN, REFERER, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use tokio_rustls::rustls::ClientConfig;
use url::Url;
use url::form_urlencoded::Serializer;
use vigie_contract::Reason;

use super::tcp::contains;
use super::{Answer, Attempt, Check, CheckError, Finding, Kind, Trace};
use crate::clock::{now, span};
use crate::exchange::{Address, tell_apart};
use crate::limits::{MOST_REDIRECTS, MOST_STEPS, USUAL_REDIRECTS};
use crate::net::{Host, Net};
use crate::secret::{Secret, SecretSource};
use crate::sigv4::encode;
use jar::Jar;
use page::Place;
use template::{Template, Values};

/// A longer value is no token and no address.
const MOST_VALUE_BYTES: usize = 8_192;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    /// `https://host`, without a path: the steps' addresses begin there.
    endpoint: String,
    steps: Vec<StepBlock>,
    /// Other hosts that the journey may lead to.
    #[serde(default)]
    hosts: Vec<String>,
    /// So many redirections are followed in a step, 0 to 10.
    #[serde(default = "usual_redirects")]
    redirects: usize,
    /// What a reset before the first answer is.
    #[serde(default)]
    reset: Reset,
    /// Connect here instead of the endpoint's host: `host:port`.
    connect: Option<String>,
    /// A PEM file of the authorities to trust instead of the public ones.
    ca: Option<PathBuf>,
    #[serde(default, rename = "outside")]
    _outside: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepBlock {
    /// What the metrics call it.
    name: String,
    /// Where it goes: a path, a URL of one of the hosts, or `{name}`.
    get: Option<String>,
    post: Option<String>,
    /// The fields of the form; nothing secret belongs here.
    #[serde(default)]
    form: BTreeMap<String, String>,
    /// Its fields that are secret: the step is a login.
    #[serde(default)]
    secrets: BTreeMap<String, SecretSource>,
    /// The statuses to expect; 200 to 299 if none is written. A redirection that is expected is not followed.
    #[serde(default)]
    status: Vec<u16>,
    /// A text that the page contains.
    marker: Option<String>,
    /// Texts that say that the login was refused: a wrong password, a locked account, a second factor.
    #[serde(default)]
    refused: Vec<String>,
    /// What later steps send along, by name.
    #[serde(default)]
    extract: BTreeMap<String, Place>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reset {
    #[default]
    Void,
    Fail,
}

fn usual_redirects() -> usize {
    USUAL_REDIRECTS
}

struct Console {
    endpoint: Url,
    hosts: HashSet<String>,
    redirects: usize,
    reset: Reset,
    connect: Option<(Host, u16)>,
    trust: Arc<ClientConfig>,
    steps: Vec<Step>,
}

struct Step {
    name: Arc<str>,
    place: Template,
    /// None for GET.
    form: Option<Vec<(String, Field)>>,
    status: Vec<u16>,
    marker: Option<String>,
    refused: Vec<String>,
    extract: BTreeMap<String, Place>,
    is_login: bool,
}

enum Field {
    Text(Template),
    Secret(Secret),
}

/// Says of each thing that is wrong where it is and how to mend it.
type Mistakes = Vec<String>;

impl Block {
    pub(super) fn validate(&self) -> Result<(), CheckError> {
        let mut mistakes = Mistakes::new();
        let mut note = |result: Result<(), CheckError>| mistakes.extend(result.err().map(|error| error.to_string()));
        note(self.endpoint().map(|_| ()));
        note(self.connect.as_deref().map(Host::with_port).transpose().map(|_| ()));
        self.hosts.iter().for_each(|host| note(Host::parse(host).map(|_| ())));
        if self.redirects > MOST_REDIRECTS {
            mistakes.push(format!("`redirects` is from 0 to {MOST_REDIRECTS}"));
        }
        if !(1..=MOST_STEPS).contains(&self.steps.len()) {
            mistakes.push(format!("a journey has from 1 to {MOST_STEPS} `steps`"));
        }
        if self.steps.last().is_some_and(|step| step.marker.is_none()) {
            mistakes.push("the last step needs a `marker`: what is there when the journey has succeeded".to_owned());
        }
        let (mut names, mut values) = (BTreeSet::new(), BTreeSet::new());
        for step in &self.steps {
            if !names.insert(&step.name) {
                mistakes.push(format!("two steps are called `{}`", step.name));
            }
            let about_step = step.mistakes(&values).into_iter().chain(self.place_mistake(step));
            mistakes.extend(about_step.map(|mistake| format!("step `{}`: {mistake}", step.name)));
            values.extend(step.extract.keys().map(String::as_str));
        }
        if mistakes.is_empty() { Ok(()) } else { Err(CheckError::Shape(mistakes.join("; "))) }
    }

    fn endpoint(&self) -> Result<Url, CheckError> {
        let address = Address::parse(&self.endpoint)?;
        if address.path != "/" {
            return Err(CheckError::Shape(format!("the endpoint `{}` has a path: write the host only", self.endpoint)));
        }
        let url: Url = self.endpoint.parse().map_err(|error| CheckError::Shape(format!("`{}` is no URL: {error}", self.endpoint)))?;
        let is_exposed = url.scheme() == "http" && !is_this_machine(&url) && self.steps.iter().any(StepBlock::is_login);
        if is_exposed {
            return Err(CheckError::Shape(format!("`{}` would send a secret in plain text: write https://…", self.endpoint)));
        }
        Ok(url)
    }

    /// The hosts that the journey may lead to, as they stand in URLs.
    fn allowed_hosts(&self, endpoint: &Url) -> HashSet<String> {
        let of_url = |url: &Url| url.host_str().map(str::to_owned);
        let others = self.hosts.iter().filter_map(|host| of_url(&format!("https://{host}").parse().ok()?));
        others.chain(of_url(endpoint)).collect()
    }

    /// What is wrong with where a step goes, if something is.
    fn place_mistake(&self, step: &StepBlock) -> Option<String> {
        let place = step.place()?;
        if place.starts_with('/') && !place.starts_with("//") || Template::parse(place).is_value() {
            return None;
        }
        let endpoint = self.endpoint().ok()?;
        let authority_end = place.find("://").map_or(0, |at| at + 3);
        let authority = place[authority_end..].split(['/', '?', '#']).next().unwrap_or_default();
        match place.parse::<Url>() {
            Ok(url) if url.scheme() == endpoint.scheme() && !authority.contains('{') => {
                let is_allowed = url.host_str().is_some_and(|host| self.allowed_hosts(&endpoint).contains(host));
                (!is_allowed).then(|| format!("`{place}` is at none of the hosts: name it in `hosts`"))
            }
            _ => Some(format!("`{place}` is no path and no {}:// URL", endpoint.scheme())),
        }
    }

    pub(super) fn secrets(&self) -> Vec<&SecretSource> {
        self.steps.iter().flat_map(|step| step.secrets.values()).collect()
    }

    pub(super) fn build(self, net: &Net) -> Result<impl Check + use<>, CheckError> {
        let endpoint = self.endpoint()?;
        Ok(Console {
            hosts: self.allowed_hosts(&endpoint),
            endpoint,
            redirects: self.redirects,
            reset: self.reset,
            connect: self.connect.as_deref().map(Host::with_port).transpose()?,
            trust: net.trust(self.ca.as_deref())?,
            steps: self.steps.into_iter().map(StepBlock::build).collect::<Result<_, _>>()?,
        })
    }
}

impl StepBlock {
    fn is_login(&self) -> bool {
        !self.secrets.is_empty()
    }

    fn place(&self) -> Option<&String> {
        self.get.as_ref().xor(self.post.as_ref())
    }

    /// `known` are the values that earlier steps extract.
    fn mistakes(&self, known: &BTreeSet<&str>) -> Mistakes {
        let mut mistakes = Mistakes::new();
        if self.name.is_empty() {
            mistakes.push("it has no name".to_owned());
        }
        if self.place().is_none() {
            mistakes.push("it needs `get` or `post`, and not both".to_owned());
        }
        if self.get.is_some() && !(self.form.is_empty() && self.secrets.is_empty()) {
            mistakes.push("`form` and `secrets` are for `post`".to_owned());
        }
        if self.is_login() && self.marker.is_none() {
            mistakes.push("a login needs a `marker`: what is there only if it succeeded".to_owned());
        }
        if !self.is_login() && !self.refused.is_empty() {
            mistakes.push("`refused` is for a login: a step with `secrets`".to_owned());
        }
        mistakes.extend(self.secrets.keys().filter(|name| self.form.contains_key(*name)).map(|name| format!("`{name}` is there twice")));
        mistakes
            .extend(self.status.iter().filter(|status| !(100..600).contains(*status)).map(|wrong| format!("{wrong} is no HTTP status")));
        if self.marker.iter().chain(&self.refused).any(String::is_empty) {
            mistakes.push("an empty text is in every page".to_owned());
        }
        mistakes.extend(self.extract.iter().filter_map(|(name, place)| place.mistake(name)));
        let templates = self.place().into_iter().chain(self.form.values()).map(|text| Template::parse(text));
        let unknown: BTreeSet<_> = templates
            .flat_map(|text| text.names().map(str::to_owned).collect::<Vec<_>>())
            .filter(|name| !known.contains(name.as_str()))
            .collect();
        mistakes.extend(unknown.into_iter().map(|name| format!("no earlier step extracts `{name}`")));
        mistakes
    }

    fn build(self) -> Result<Step, CheckError> {
        let is_login = self.is_login();
        let texts = self.form.iter().map(|(name, text)| Ok((name.clone(), Field::Text(Template::parse(text)))));
        let secrets = self.secrets.iter().map(|(name, source)| Ok((name.clone(), Field::Secret(source.read()?))));
        let fields: Vec<_> = texts.chain(secrets).collect::<Result<_, CheckError>>()?;
        Ok(Step {
            place: Template::parse(self.place().map_or("", |place| place)),
            form: self.post.is_some().then_some(fields),
            name: self.name.into(),
            status: self.status,
            marker: self.marker,
            refused: self.refused,
            extract: self.extract,
            is_login,
        })
    }
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

impl Check for Console {
    fn attempt<'a>(&'a self, attempt: &'a Attempt<'a>, trace: &'a mut Trace) -> Answer<'a> {
        Box::pin(async move { self.travel(attempt, trace).await.err().unwrap_or(Finding::Ok) })
    }

    fn kind(&self) -> Kind {
        Kind::Http
    }
}

impl Console {
    async fn travel(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<(), Finding> {
        let (jar, values) = (Jar::default(), Values::default());
        let mut journey = Journey { console: self, attempt, jar, values, page: self.endpoint.clone(), has_sent_secret: false };
        for step in &self.steps {
            trace.begin_step(&step.name);
            let taken = journey.take(step, trace).await;
            if let Err(found) = taken {
                tracing::debug!(step = &*step.name, phase = ?trace.last, ?found, "journey of target {}", attempt.target);
            }
            taken?;
        }
        Ok(())
    }

    fn allows(&self, url: &Url) -> bool {
        let is_web = url.scheme() == "https" || url.scheme() == "http";
        is_web && url.host_str().is_some_and(|host| self.hosts.contains(host))
    }
}

/// One attempt.
struct Journey<'a> {
    console: &'a Console,
    attempt: &'a Attempt<'a>,
    jar: Jar,
    values: Values,
    /// The last one that was seen.
    page: Url,
    has_sent_secret: bool,
}

/// What is sent.
struct Question {
    url: Url,
    /// None for GET.
    form: Option<Bytes>,
}

/// What came back, whole.
struct Reply {
    status: StatusCode,
    location: Option<String>,
    body: Vec<u8>,
}

impl Journey<'_> {
    async fn take(&mut self, step: &Step, trace: &mut Trace) -> Result<(), Finding> {
        let mut question = self.question(step)?;
        let mut redirects_left = self.console.redirects;
        let reply = loop {
            let reply = self.ask(&question, trace).await?;
            let Some(location) = reply.leads_on().filter(|_| !step.expects(reply.status)) else { break reply };
            redirects_left = redirects_left.checked_sub(1).ok_or(Finding::Fail(Reason::Status))?;
            question = self.follow(question, reply.status, location)?;
        };
        self.page = question.url;
        step.judge(&reply, self.has_sent_secret)?;
        self.extract(step, &reply)
    }

    /// What the step asks first.
    fn question(&mut self, step: &Step) -> Result<Question, Finding> {
        let own = Finding::Void(Reason::Internal);
        let url = if step.place.is_value() {
            let place = step.place.fill(&self.values, str::to_owned).ok_or(own)?;
            let url = self.page.join(&place).map_err(|_| Finding::Fail(Reason::Content))?;
            self.check_way(&url, StatusCode::FOUND)?;
            url
        } else {
            let place = step.place.fill(&self.values, |value| encode(value, false)).ok_or(own)?;
            self.console.endpoint.join(&place).map_err(|_| own)?
        };
        let Some(fields) = &step.form else { return Ok(Question { url, form: None }) };
        let mut form = Serializer::new(String::new());
        for (name, field) in fields {
            match field {
                Field::Text(text) => form.append_pair(name, &text.fill(&self.values, str::to_owned).ok_or(own)?),
                Field::Secret(secret) => form.append_pair(name, secret.reveal()),
            };
        }
        self.has_sent_secret |= step.is_login;
        Ok(Question { url, form: Some(form.finish().into()) })
    }

    /// As a browser does: only 307 and 308 send the form again.
    fn follow(&mut self, question: Question, status: StatusCode, location: &str) -> Result<Question, Finding> {
        let url = question.url.join(location).map_err(|_| Finding::Fail(Reason::Protocol))?;
        self.page = question.url;
        self.check_way(&url, status)?;
        let sends_again = status == StatusCode::TEMPORARY_REDIRECT || status == StatusCode::PERMANENT_REDIRECT;
        Ok(Question { url, form: question.form.filter(|_| sends_again) })
    }

    /// The rows of the table that speak of where a page leads.
    fn check_way(&self, url: &Url, status: StatusCode) -> Result<(), Finding> {
        if self.page.scheme() == "https" && url.scheme() == "http" {
            return Err(Finding::Fail(Reason::Status));
        }
        if self.console.allows(url) {
            return Ok(());
        }
        let is_sign_on = url.query_pairs().any(|(key, _)| key == "client_id" || key == "SAMLRequest");
        let is_for_good = status == StatusCode::MOVED_PERMANENTLY || status == StatusCode::PERMANENT_REDIRECT;
        Err(if self.has_sent_secret || is_sign_on {
            Finding::Void(Reason::Credential)
        } else if is_for_good {
            Finding::Void(Reason::Request)
        } else {
            Finding::Fail(Reason::Status)
        })
    }

    /// One request over a connection of its own.
    async fn ask(&mut self, question: &Question, trace: &mut Trace) -> Result<Reply, Finding> {
        let address = Address::parse(question.url.as_str()).map_err(|_| Finding::Fail(Reason::Protocol))?;
        let place = self.console.connect.clone().filter(|_| question.url.host_str() == self.console.endpoint.host_str());
        let trust = || Ok(Arc::clone(&self.console.trust));
        let server = address.server_at(place, trust).map_err(|_| Finding::Fail(Reason::Protocol))?;
        let request = self.request(question, address)?;
        let net = self.attempt.net;
        let asked = async { server.open(net, trace).await?.fetch(request, trace).await }.await;
        let was_reset = matches!(asked, Err(Finding::Fail(Reason::Reset))) && trace.facts.http_status.is_none();
        if was_reset && self.attempt.is_retry && self.console.reset == Reset::Void {
            return Err(Finding::Void(Reason::Address));
        }
        let (head, body) = asked?;
        let wall = self.attempt.wall + span(now().saturating_duration_since(trace.began));
        self.jar.keep(&question.url, &head.headers, wall);
        let location = head.headers.get(LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Ok(Reply { status: head.status, location, body })
    }

    fn request(&self, question: &Question, address: Address) -> Result<Request<Full<Bytes>>, Finding> {
        let mut request = Request::new(Full::new(question.form.clone().unwrap_or_default()));
        *request.uri_mut() = address.path;
        let headers = request.headers_mut();
        headers.insert(HOST, address.authority);
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("vigie/", env!("CARGO_PKG_VERSION"), " (availability supervision)")));
        headers.insert(ACCEPT, HeaderValue::from_static("text/html, */*;q=0.1"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if let Some(cookies) = self.jar.header(&question.url) {
            headers.insert(COOKIE, cookies);
        }
        if question.form.is_some() {
            // What consoles ask for against forged requests, beside a token.
            let origin = self.page.origin().ascii_serialization();
            let value = |text: String| HeaderValue::try_from(text).map_err(|_| Finding::Void(Reason::Internal));
            headers.insert(REFERER, value(format!("{origin}/"))?);
            headers.insert(ORIGIN, value(origin)?);
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            *request.method_mut() = Method::POST;
        }
        tell_apart(&mut request, self.attempt.id);
        Ok(request)
    }

    fn extract(&mut self, step: &Step, reply: &Reply) -> Result<(), Finding> {
        if step.extract.is_empty() {
            return Ok(());
        }
        let page = String::from_utf8_lossy(&reply.body);
        for (name, place) in &step.extract {
            let value = place.find(&page).filter(|value| value.len() <= MOST_VALUE_BYTES).ok_or(Finding::Fail(Reason::Content))?;
            self.values.keep(name, value);
        }
        Ok(())
    }
}

impl Reply {
    /// Where a redirection goes.
    fn leads_on(&self) -> Option<&str> {
        let is_redirection = matches!(self.status.as_u16(), 301 | 302 | 303 | 307 | 308);
        self.location.as_deref().filter(|_| is_redirection)
    }

    fn asks_for_credential(&self) -> bool {
        page::asks_for_credential(&String::from_utf8_lossy(&self.body))
    }
}

impl Step {
    fn expects(&self, status: StatusCode) -> bool {
        if self.status.is_empty() { status.is_success() } else { self.status.contains(&status.as_u16()) }
    }

    /// The rows of the table that speak of answers.
    fn judge(&self, reply: &Reply, has_sent_secret: bool) -> Result<(), Finding> {
        self.judge_status(reply, has_sent_secret)?;
        let has = |text: &String| contains(&reply.body, text.as_bytes());
        if self.refused.iter().any(has) {
            return Err(Finding::Void(Reason::Credential));
        }
        if self.marker.as_ref().is_none_or(has) {
            return Ok(());
        }
        Err(if self.is_login && reply.asks_for_credential() { Finding::Void(Reason::Credential) } else { Finding::Fail(Reason::Content) })
    }

    fn judge_status(&self, reply: &Reply, has_sent_secret: bool) -> Result<(), Finding> {
        if self.expects(reply.status) {
            return Ok(());
        }
        let is_refused =
            || self.is_login && (self.refused.iter().any(|text| contains(&reply.body, text.as_bytes())) || reply.asks_for_credential());
        Err(match reply.status.as_u16() {
            429 => Finding::Void(Reason::Throttled),
            401 | 423 => Finding::Void(Reason::Credential),
            403 if has_sent_secret => Finding::Void(Reason::Credential),
            403 => Finding::Void(Reason::Address),
            400..=499 if is_refused() => Finding::Void(Reason::Credential),
            400..=499 => Finding::Void(Reason::Request),
            _ => Finding::Fail(Reason::Status),
        })
    }
}
