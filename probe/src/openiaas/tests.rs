use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use vigie_contract::{Reason, Span, Time};
use vigie_counterparts::openiaas::{Fault, OpenIaas, Route, Scope, TOKEN_ID, TOKEN_SECRET};

use super::*;
use crate::check::{Check, Phase, build};
use crate::clock::now;
use crate::net::{self, Source};
use crate::resolve::Resolver;

/// The provider's API, a probe's share in it, and the clock of both.
pub(crate) struct Bench {
    pub(crate) api: OpenIaas,
    clock: Arc<AtomicI64>,
    pub(crate) net: Net,
    secrets: TempDir,
    /// After so long an attempt is given up.
    pub(crate) timeout: Duration,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::with_clock_that_steps_by(Span::ZERO).await
    }

    /// The API's clock goes on by so much whenever it is looked at.
    async fn with_clock_that_steps_by(step: Span) -> Self {
        let clock = Arc::new(AtomicI64::new(1_800_000_000_000_000));
        let told = Arc::clone(&clock);
        let api = OpenIaas::start("127.0.0.1:0".parse().unwrap(), Arc::new(move || told.fetch_add(step.us(), Ordering::Relaxed)));
        let secrets = TempDir::new().unwrap();
        std::fs::write(secrets.path().join("id"), TOKEN_ID).unwrap();
        std::fs::write(secrets.path().join("secret"), TOKEN_SECRET).unwrap();
        let net = Net::new(Source::default(), Resolver::of_system(), Err("none".to_owned()), net::trust(None).unwrap());
        Self { api: api.await.unwrap(), clock, net, secrets, timeout: Duration::from_secs(30) }
    }

    /// A check of this kind with these settings.
    pub(crate) fn check(&self, kind: &str, settings: &Value) -> Box<dyn Check> {
        build(&self.block(kind, settings), &self.net).unwrap()
    }

    pub(crate) fn block(&self, kind: &str, settings: &Value) -> Value {
        let secret = |name: &str| json!({"file": self.secrets.path().join(name)});
        let mut block = json!({
            "kind": kind, "api": {"endpoint": self.api.url(), "token_id": secret("id"), "token_secret": secret("secret")},
        });
        block.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        block
    }

    pub(crate) fn pass(&self, span: Span) {
        self.clock.fetch_add(span.us(), Ordering::Relaxed);
    }

    /// As the station does.
    pub(crate) async fn attempt(&self, check: &dyn Check, is_retry: bool) -> (Finding, Trace) {
        let began = now();
        let mut trace = Trace::new(began);
        let deadline = began + self.timeout;
        let wall = Time::from_us(self.clock.load(Ordering::Relaxed));
        let (id, target, vantage) = ("run-target-0-1", "target", "az05");
        let attempt = Attempt { net: &self.net, id, target, vantage, is_retry, wall, deadline, clock_error: Span::ZERO };
        let found = tokio::time::timeout_at(deadline.into(), check.attempt(&attempt, &mut trace)).await;
        trace.close(now());
        (found.unwrap_or(Finding::Fail(Reason::Timeout)), trace)
    }

    /// The first attempt of a slot, 15 s after what was before.
    pub(crate) async fn first(&self, check: &dyn Check) -> (Finding, Trace) {
        self.pass(Span::from_secs(15));
        self.attempt(check, false).await
    }

    pub(crate) async fn second(&self, check: &dyn Check) -> (Finding, Trace) {
        self.pass(Span::from_us(1_100_000));
        self.attempt(check, true).await
    }

    /// A whole slot: what its sample says.
    pub(crate) async fn slot(&self, check: &dyn Check) -> (Finding, Trace) {
        match self.first(check).await {
            (Finding::Fail(_), _) => self.second(check).await,
            found => found,
        }
    }

    /// What was asked since this was last called.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.api.take_heard().into_iter().map(|heard| heard.line).collect()
    }

    fn logins(&self) -> usize {
        self.lines().iter().filter(|line| line.starts_with("POST /api/iam/v2/auth/personal_access_token")).count()
    }
}

/// Runs all of these at once: most of them wait.
pub(crate) async fn all(works: impl IntoIterator<Item: Future<Output = ()> + 'static>) {
    let local = tokio::task::LocalSet::new();
    let works: Vec<_> = works.into_iter().map(|work| local.spawn_local(work)).collect();
    let ends = async {
        for work in works {
            work.await.unwrap();
        }
    };
    local.run_until(ends).await;
}

fn lists(zone: &str, list: &str) -> Value {
    json!({"operation": "lists", "zone": zone, "list": list})
}

/// How far an attempt came.
pub(crate) fn farthest(trace: &Trace) -> Option<Phase> {
    trace.phases().last().map(|(phase, _)| phase)
}

#[tokio::test]
async fn one_logs_in_while_the_others_wait() {
    let bench = Bench::with_clock_that_steps_by(Span::from_secs(2)).await;
    let checks = ["az05", "az06", "az07"].map(|zone| bench.check("backup", &lists(zone, "backups")));
    let [a, b, c] = &checks;
    let (a, b, c) = tokio::join!(bench.attempt(&**a, false), bench.attempt(&**b, false), bench.attempt(&**c, false));
    assert_eq!([a.0, b.0, c.0], [Finding::Ok; 3]);
    assert_eq!(bench.logins(), 1);
    assert_eq!(bench.net.sessions.counts(), Counts { logins: 1, ..Counts::default() });
}

#[tokio::test]
async fn an_attempt_that_is_given_up_while_it_logs_in_frees_the_way() {
    let mut bench = Bench::start().await;
    let check = bench.check("api", &json!({}));
    bench.api.switch_on(Scope::Only(Route::Login), Fault::Hang);
    bench.timeout = Duration::from_millis(100);
    assert_eq!(bench.first(&*check).await.0, Finding::Fail(Reason::Timeout));
    bench.api.heal();
    bench.timeout = Duration::from_secs(30);
    assert_eq!(bench.second(&*check).await.0, Finding::Ok);
}

#[tokio::test]
async fn a_token_is_renewed_a_minute_before_its_end_and_no_sooner() {
    let bench = Bench::start().await;
    let check = bench.check("api", &json!({}));
    let mut logins = Vec::new();
    for _ in 0..40 {
        bench.pass(Span::from_secs(14));
        assert_eq!(bench.attempt(&*check, false).await.0, Finding::Ok);
        logins.push(bench.logins());
    }
    let expected: Vec<_> = (0..40).map(|slot| usize::from(slot % 18 == 0)).collect();
    assert_eq!(logins, expected, "after 240 s");
}

#[tokio::test]
async fn a_token_that_lives_short_serves_half_its_life() {
    let bench = Bench::start().await;
    bench.api.set_token_life(80);
    let check = bench.check("api", &json!({}));
    let mut logins = 0;
    for _ in 0..9 {
        assert_eq!(bench.first(&*check).await.0, Finding::Ok);
        logins += bench.logins();
    }
    assert_eq!(logins, 3);
}

#[tokio::test]
async fn a_reload_and_another_kind_share_the_session_and_another_token_does_not() {
    let bench = Bench::start().await;
    let old = bench.check("api", &json!({}));
    assert_eq!(bench.first(&*old).await.0, Finding::Ok);
    let new = bench.check("api", &json!({"zone": "az06"}));
    drop(old);
    assert_eq!(bench.first(&*new).await.0, Finding::Ok);
    assert_eq!(bench.first(&*bench.check("backup", &lists("az05", "policies"))).await.0, Finding::Ok);
    assert_eq!(bench.logins(), 1);
    std::fs::write(bench.secrets.path().join("secret"), "another").unwrap();
    let other = bench.check("api", &json!({}));
    assert_eq!(bench.first(&*other).await.0, Finding::Void(Reason::Credential));
    assert_eq!(bench.logins(), 1);
    drop((new, other));
    let _third = bench.check("api", &json!({"zone": "az07"}));
    assert_eq!(bench.net.sessions.open.borrow().len(), 1, "what nobody uses is forgotten");
}

#[tokio::test]
async fn a_token_that_is_refused_young_is_counted_and_kept_and_one_that_is_old_is_replaced() {
    let bench = Bench::start().await;
    let check = bench.check("api", &json!({}));
    assert_eq!(bench.first(&*check).await.0, Finding::Ok);
    bench.api.switch_on(Scope::Reads, Fault::Unauthorized);
    bench.lines();
    for _ in 0..3 {
        assert_eq!(bench.first(&*check).await.0, Finding::Void(Reason::Credential));
    }
    assert_eq!((bench.net.sessions.counts().fresh_token_refused, bench.logins()), (3, 0));
    bench.pass(Span::from_secs(1));
    assert_eq!(bench.first(&*check).await.0, Finding::Void(Reason::Credential), "a minute old by now");
    assert_eq!((bench.net.sessions.counts().fresh_token_refused, bench.logins()), (3, 0));
    bench.api.heal();
    assert_eq!(bench.first(&*check).await.0, Finding::Ok);
    assert_eq!(bench.logins(), 1);
}

#[tokio::test]
async fn a_login_that_is_refused_is_repeated_ever_more_rarely() {
    for (fault, reason) in [
        (Fault::Unauthorized, Reason::Credential),
        (Fault::NotListed, Reason::Address),
        (Fault::Throttled { retry_after_s: None }, Reason::Throttled),
    ] {
        let bench = Bench::start().await;
        let check = bench.check("api", &json!({}));
        bench.api.switch_on(Scope::Only(Route::Login), fault);
        let mut logins = 0;
        for _ in 0..120 {
            bench.pass(Span::from_secs(1));
            assert_eq!(bench.attempt(&*check, false).await.0, Finding::Void(reason), "{fault:?}");
            logins += bench.logins();
        }
        assert_eq!(logins, 7, "{fault:?}: after 2, 4, 8, 16, 30, 30 s");
        bench.api.heal();
        bench.pass(Span::from_secs(30));
        assert_eq!(bench.attempt(&*check, false).await.0, Finding::Ok, "{fault:?}");
    }
}

#[tokio::test]
async fn a_login_waits_as_long_as_the_server_says_up_to_a_minute() {
    for (retry_after, waits) in [(20, 20), (3_600, 60)] {
        let bench = Bench::start().await;
        let check = bench.check("api", &json!({}));
        bench.api.switch_on(Scope::Only(Route::Login), Fault::Throttled { retry_after_s: Some(retry_after) });
        assert_eq!(bench.attempt(&*check, false).await.0, Finding::Void(Reason::Throttled));
        bench.api.heal();
        bench.pass(Span::from_secs(waits - 1));
        assert_eq!(bench.attempt(&*check, false).await.0, Finding::Void(Reason::Throttled));
        bench.pass(Span::from_secs(2));
        assert_eq!(bench.attempt(&*check, false).await.0, Finding::Ok);
    }
}

#[tokio::test]
async fn a_failed_login_stands_for_a_second_but_not_for_a_second_attempt() {
    let bench = Bench::start().await;
    let checks = [bench.check("api", &json!({})), bench.check("api", &json!({"zone": "az05"}))];
    bench.api.switch_on(Scope::Only(Route::Login), Fault::Status(503));
    assert_eq!(bench.first(&*checks[0]).await.0, Finding::Fail(Reason::Status));
    bench.pass(Span::from_us(500_000));
    assert_eq!(bench.attempt(&*checks[1], false).await.0, Finding::Fail(Reason::Status));
    assert_eq!(bench.logins(), 1);
    bench.pass(Span::from_us(600_000));
    assert_eq!(bench.attempt(&*checks[0], true).await.0, Finding::Fail(Reason::Status));
    assert_eq!(bench.logins(), 1);
    bench.pass(Span::from_us(500_000));
    bench.api.heal();
    assert_eq!(bench.attempt(&*checks[1], true).await.0, Finding::Ok, "it asked for itself");
}

#[tokio::test]
async fn a_token_that_still_holds_is_used_while_logins_are_throttled() {
    let bench = Bench::start().await;
    let check = bench.check("api", &json!({}));
    assert_eq!(bench.first(&*check).await.0, Finding::Ok);
    bench.api.switch_on(Scope::Only(Route::Login), Fault::Throttled { retry_after_s: None });
    bench.pass(Span::from_secs(230));
    for _ in 0..4 {
        assert_eq!(bench.first(&*check).await.0, Finding::Ok);
    }
    assert!(bench.logins() > 1);
    assert_eq!(bench.first(&*check).await.0, Finding::Void(Reason::Throttled), "its end has come");
}

#[tokio::test]
async fn how_long_a_token_held_is_told_where_it_is_renewed_and_where_it_is_not() {
    let bench = Bench::start().await;
    let check = bench.check("api", &json!({}));
    let left_s = || bench.net.sessions.token_left().map(|left| left.us() / 1_000_000);
    assert_eq!(left_s(), None, "nobody has needed one");
    for _ in 0..40 {
        assert_eq!(bench.first(&*check).await.0, Finding::Ok);
        assert!(left_s() > Some(50), "{:?}: it is renewed, with a minute left", left_s());
    }
    bench.pass(Span::from_secs(600));
    assert_eq!(bench.first(&*check).await.0, Finding::Ok, "a slot in ten minutes");
    assert!(left_s() > Some(60), "{:?}", left_s());

    bench.api.switch_on(Scope::Only(Route::Login), Fault::Unauthorized);
    bench.pass(Span::from_secs(230));
    let mut left = Vec::new();
    for _ in 0..6 {
        bench.first(&*check).await;
        left.push(left_s());
    }
    // From 55 s on, fifteen a slot, and what this machine takes besides, at the login too.
    assert!(left.is_sorted_by(|before, after| before >= after) && left[0] > left[2] && left[2] > left[4], "{left:?}");
    assert_eq!((left[0] < Some(200), left[5]), (true, Some(0)), "{left:?}: it runs out");
    bench.api.switch_on(Scope::Only(Route::Login), Fault::Status(503));
    bench.pass(Span::from_secs(30));
    assert_eq!(bench.first(&*check).await.0, Finding::Fail(Reason::Status));
    assert_eq!(left_s(), None, "an outage, and no matter of tokens");
    bench.api.heal();
    assert_eq!(bench.first(&*check).await.0, Finding::Ok);
    assert!(left_s() > Some(60));
    drop(check);
    assert_eq!(left_s(), None, "nobody needs one any more");
}

#[tokio::test]
async fn a_session_without_a_token_says_so_and_the_least_of_several_counts() {
    let bench = Bench::start().await;
    let check = bench.check("api", &json!({}));
    assert_eq!(bench.first(&*check).await.0, Finding::Ok);
    std::fs::write(bench.secrets.path().join("secret"), "expired").unwrap();
    let refused = bench.check("api", &json!({}));
    assert_eq!(bench.first(&*refused).await.0, Finding::Void(Reason::Credential));
    assert_eq!(bench.net.sessions.token_left(), Some(Span::ZERO));
    drop(refused);
    assert!(bench.net.sessions.token_left() > Some(Span::from_secs(250)));
}

#[tokio::test]
async fn throttling_that_lasts_is_counted() {
    let bench = Bench::start().await;
    let check = bench.check("api", &json!({}));
    assert_eq!(bench.first(&*check).await.0, Finding::Ok);
    bench.api.switch_on(Scope::Everything, Fault::Throttled { retry_after_s: Some(1) });
    for _ in 0..5 {
        assert_eq!(bench.first(&*check).await.0, Finding::Void(Reason::Throttled));
    }
    assert_eq!(bench.net.sessions.counts().sustained_throttling, 3);
    bench.api.heal();
    assert_eq!(bench.first(&*check).await.0, Finding::Ok);
    bench.api.switch_on(Scope::Everything, Fault::Throttled { retry_after_s: None });
    assert_eq!(bench.first(&*check).await.0, Finding::Void(Reason::Throttled));
    assert_eq!(bench.net.sessions.counts().sustained_throttling, 3);
}

#[tokio::test]
async fn the_latency_of_a_read_holds_no_login() {
    let bench = Bench::start().await;
    let check = bench.check("api", &json!({}));
    let (found, trace) = bench.first(&*check).await;
    assert_eq!(found, Finding::Ok);
    assert!(trace.counts_from > trace.began);
    assert!(trace.phases().all(|(phase, _)| phase != Phase::Setup));
}

#[tokio::test]
async fn it_says_who_it_is_and_shows_no_secret() {
    let bench = Bench::start().await;
    let block = bench.block("api", &json!({}));
    let access: Access = serde_json::from_value(block["api"].clone()).unwrap();
    let shown = format!("{access:?}");
    assert!(!shown.contains(TOKEN_ID) && !shown.contains(TOKEN_SECRET), "{shown}");
    let session = access.session(&bench.net).unwrap();
    let check = bench.check("api", &json!({}));
    assert_eq!(bench.first(&*check).await.0, Finding::Ok);
    let token = session.token.borrow().clone().unwrap();
    assert_eq!(format!("{:?}", token.bearer), "Sensitive");
    let heard = bench.api.take_heard();
    assert!(heard.iter().all(|heard| heard.user_agent.starts_with("vigie/")), "{heard:?}");
    std::fs::write(bench.secrets.path().join("secret"), "not\nprintable").unwrap();
    let error = build(&block, &bench.net).err().unwrap().to_string();
    assert!(error.contains("secret") && !error.contains("printable\n") && !error.contains("not\n"), "{error}");
}

/// What [`crate::ceiling`] adds up is what is asked when every slot needs both attempts.
#[tokio::test]
async fn a_check_asks_what_it_says_that_it_asks() {
    let age = json!({"operation": "age", "zone": "az05", "virtual_machine": "canary-az05", "interval": "24h", "grace": "24h"});
    let witness = json!({"path": "witness", "zone": "az05", "virtual_machine": "canary-az05"});
    let all = [("api", json!({"zone": "az05"})), ("backup", lists("az05", "policies")), ("backup", age), ("compute", witness)];
    for (kind, settings) in all {
        let bench = Bench::start().await;
        // So long after the last backup that the policies are asked for.
        bench.pass(Span::from_secs(3_600 * 48));
        let check = bench.check(kind, &settings);
        bench.first(&*check).await;
        bench.second(&*check).await;
        bench.lines();
        let slots = 4;
        for _ in 0..slots {
            bench.first(&*check).await;
            bench.second(&*check).await;
        }
        let without_zone = |line: String| {
            let line = line.replace("machineManagerId=manager-az05", "").replace("?&", "?");
            line.trim_end_matches('?').to_owned()
        };
        let mut made = std::collections::BTreeMap::<String, u64>::new();
        for line in bench.lines().into_iter().filter(|line| !line.starts_with("POST")).map(without_zone) {
            *made.entry(line).or_default() += 1_000;
        }
        let asked = crate::check::asked(&bench.block(kind, &settings));
        assert_eq!(made, asked.into_iter().map(|asked| (asked.what, asked.per_slot_milli * slots)).collect(), "{kind}");
    }
}

#[tokio::test]
async fn one_thing_can_be_read() {
    let bench = Bench::start().await;
    let access: Access = serde_json::from_value(bench.block("api", &json!({}))["api"].clone()).unwrap();
    let session = access.session(&bench.net).unwrap();
    let (began, wall) = (now(), Time::from_us(1_800_000_000_000_000));
    let attempt =
        Attempt { net: &bench.net, id: "id", target: "t", vantage: "v", is_retry: false, wall, deadline: began, clock_error: Span::ZERO };
    let mut trace = Trace::new(began);
    let path = format!("{ZONES}/virtual_machines/canary-az05");
    let reply = session.get(&path, &attempt, &mut trace).await.ok().unwrap();
    assert_eq!(reply.item::<Zone>(), Ok(Zone { id: "canary-az05".to_owned(), name: "canary-az05".to_owned() }));
    let missing = session.get(&format!("{path}6"), &attempt, &mut trace).await.err();
    assert_eq!(missing, Some(Finding::Void(Reason::Request)));
}
