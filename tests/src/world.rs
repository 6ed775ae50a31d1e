//! Random small worlds: a catalogue and the evidence of a few troubled minutes. The same seed gives the same world.

use std::fmt::Write;

use serde_json::{Value, json};

/// A catalogue, given or carried by the evidence, and the evidence in the order of its append times.
#[derive(Clone, Debug)]
pub struct World {
    /// The catalogue's text; `None` if the evidence carries it.
    pub catalogue: Option<String>,
    /// NDJSON, a record a line.
    pub evidence: Vec<String>,
}

/// Numbers that look random (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers that belong to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x9e37_79b9_7f4a_7c15)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number of `[from, to)`.
    pub fn between(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from) as u64) as i64
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    /// Puts them in any order.
    pub fn shuffle<T>(&mut self, of: &mut [T]) {
        for last in (1..of.len()).rev() {
            of.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

const S: i64 = 1_000_000;
/// Instants around which worlds happen: quiet ones, a month's start, and both changes of Paris's clocks.
const STARTS_US: [i64; 5] = [1_774_567_890_000_000, 1_793_487_480_000_000, 1_774_745_880_000_000, 1_792_889_880_000_000, 600_000_000];

/// What a world is made of, before it is written down.
struct Maker {
    random: Random,
    start: i64,
    end: i64,
    period: i64,
    timeout: i64,
    vantages: Vec<String>,
    targets: Vec<String>,
    anchors: Vec<String>,
    services: Vec<String>,
    records: Vec<Value>,
}

/// The world of `seed`.
#[must_use]
pub fn world(seed: u64) -> World {
    let mut random = Random::new(seed);
    let start = *random.pick(&STARTS_US) + random.between(0, 3);
    let period = *random.pick(&[5 * S, 10 * S, 10 * S + 1, 30 * S, 7 * S + 3]);
    let names = |prefix: &str, count: u64| (0..count).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>();
    let (vantages, targets) = (names("v", 1 + random.below(4)), names("t", 1 + random.below(3)));
    let anchors = names("a", if random.once_in(3) { 0 } else { 2 });
    let slots = random.between(8, 30);
    let maker = Maker {
        end: start + slots * period,
        timeout: *random.pick(&[S, 2 * S, 3 * S + 1]),
        services: names("s", 1 + random.below(3)),
        random,
        start,
        period,
        vantages,
        targets,
        anchors,
        records: Vec::new(),
    };
    maker.make()
}

impl Maker {
    fn make(mut self) -> World {
        let text = self.catalogue(0);
        self.samples();
        self.claims();
        self.exclusions();
        let ticks = self.random.below(6);
        for _ in 0..ticks {
            let at = self.random.between(self.start, self.end + 300 * S);
            self.records.push(json!({"v": 1, "type": "tick", "appended_at": at}));
        }
        // A catalogue that comes with the evidence: the first before everything, a later one that only changes the future.
        let carried = self.random.once_in(4);
        if carried {
            self.records.push(json!({"v": 1, "type": "catalogue", "rev": 1, "text": text, "appended_at": self.start - self.period}));
            let at = self.random.between(self.start, self.end);
            let more = self.amended(&text, at);
            self.records.push(json!({"v": 1, "type": "catalogue", "rev": 2, "text": more, "appended_at": at,
                "override_by": if self.random.once_in(2) { json!("someone") } else { Value::Null }}));
        }
        self.records.sort_by_key(|record| record["appended_at"].as_i64());
        let evidence = self.records.iter().map(ToString::to_string).collect();
        World { catalogue: (!carried).then_some(text), evidence }
    }

    fn some_time(&mut self) -> i64 {
        self.random.between(self.start - 2 * self.period, self.end + 2 * self.period)
    }

    fn rfc3339(us: i64) -> String {
        vigie_contract::Time::from_us(us).to_string()
    }

    fn quoted(names: &[String]) -> String {
        names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
    }

    fn catalogue(&mut self, _version: u32) -> String {
        let mut text = String::new();
        let settle = *self.random.pick(&["0s", "3s", "10s"]);
        let stable_up = *self.random.pick(&["0s", "30s", "45s", "2m"]);
        let horizon = *self.random.pick(&["0s", "1m", "15m"]);
        let late = *self.random.pick(&["96h", "10m", "2m"]);
        let _ =
            writeln!(text, "settle = \"{settle}\"\nstable_up = \"{stable_up}\"\nclaim_horizon = \"{horizon}\"\nlate_horizon = \"{late}\"");
        let _ = writeln!(text, "[[indicator]]\nid = \"I\"\nobjective = \"99.99\"\nexclusions = [\"maintenance\", \"throttling\"]");
        if self.random.once_in(2) {
            let _ =
                writeln!(text, "[[indicator]]\nid = \"I\"\nobjective = 97\nexclusions = [\"customer\"]\nsince = 2026-11-01T00:00:00+01:00");
        }
        let vantages = self.vantages.clone();
        for vantage in &vantages {
            let anchors = Self::quoted(&self.anchors);
            let _ = writeln!(text, "[[vantage]]\nid = {vantage:?}\nanchors = [{anchors}]");
            if self.random.once_in(5) {
                let (since, anchors) = (Self::rfc3339(self.some_time()), if self.random.once_in(2) { String::new() } else { anchors });
                let _ = writeln!(text, "[[vantage]]\nid = {vantage:?}\nanchors = [{anchors}]\nsince = {since}");
            }
        }
        let targets: Vec<_> = self.targets.iter().chain(&self.anchors).cloned().collect();
        for target in &targets {
            let versions = if self.random.once_in(4) { 2 } else { 1 };
            for version in 0..versions {
                let _ = writeln!(text, "[[target]]\nid = {target:?}");
                let mut assigned = vantages.clone();
                if self.random.once_in(4) && assigned.len() > 1 {
                    self.random.shuffle(&mut assigned);
                    assigned.pop();
                }
                let _ = writeln!(text, "vantages = [{}]", Self::quoted(&assigned));
                if self.random.once_in(2) {
                    let _ = writeln!(text, "down_quorum = {}", 1 + self.random.below(assigned.len() as u64));
                }
                if self.random.once_in(2) {
                    let _ = writeln!(text, "latency_objective = \"150ms\"");
                }
                if version > 0 {
                    let _ = writeln!(text, "since = {}", Self::rfc3339(self.some_time()));
                }
            }
        }
        for service in 0..self.services.len() {
            self.service(service, &targets, &mut text);
        }
        text
    }

    fn service(&mut self, service: usize, targets: &[String], text: &mut String) {
        let versions = if self.random.once_in(4) { 2 } else { 1 };
        let mut since = self.random.between(self.start - 3 * self.period, self.start + 4 * self.period);
        for version in 0..versions {
            let needs = self.need(service, targets, 0);
            let _ = writeln!(text, "[[service]]\nid = {:?}\nindicator = \"I\"\nneeds = {needs}", self.services[service]);
            if version == 0 {
                if self.random.once_in(3) {
                    let _ = writeln!(text, "stable_up = \"{}s\"", self.random.below(60));
                }
                if self.random.below(4) > 0 {
                    let _ = writeln!(text, "since = {}", Self::rfc3339(since));
                }
            } else {
                since += self.random.between(1, self.end - self.start);
                let _ = writeln!(text, "since = {}", Self::rfc3339(since));
            }
            if version + 1 == versions && self.random.once_in(4) {
                let _ = writeln!(text, "until = {}", Self::rfc3339(since + self.random.between(1, self.end - self.start + 90 * S)));
            }
        }
    }

    /// An expression over targets and earlier services.
    fn need(&mut self, service: usize, targets: &[String], depth: u32) -> String {
        if depth == 2 || self.random.once_in(2) {
            return match self.random.below(4) {
                0 if service > 0 => format!("{:?}", self.services[self.random.below(service as u64) as usize]),
                _ => format!("{:?}", self.random.pick(targets)),
            };
        }
        let count = 1 + self.random.below(3);
        let list: Vec<_> = (0..count).map(|_| self.need(service, targets, depth + 1)).collect();
        let (list, k) = (list.join(", "), 1 + self.random.below(count));
        match self.random.below(3) {
            0 => format!("{{ all = [{list}] }}"),
            1 => format!("{{ any = [{list}] }}"),
            _ => format!("{{ at_least = {k}, of = [{list}] }}"),
        }
    }

    /// The same catalogue with another version of a target, from `at` on or a little before.
    fn amended(&mut self, text: &str, at: i64) -> String {
        let target = self.random.pick(&self.targets).clone();
        let since = Self::rfc3339(at + self.random.between(-3 * self.period, 10 * self.period));
        let vantages = Self::quoted(&self.vantages);
        format!("{text}\n[[target]]\nid = {target:?}\nvantages = [{vantages}]\nsince = {since}\n")
    }

    /// Outages of targets, of vantages, and of everything, as intervals in which asking fails.
    fn troubles(&mut self) -> Vec<(Option<String>, Option<String>, i64, i64)> {
        let count = self.random.below(5);
        let trouble = |maker: &mut Self| {
            let all: Vec<_> = maker.targets.iter().chain(&maker.anchors).cloned().collect();
            let target = (!maker.random.once_in(3)).then(|| maker.random.pick(&all).clone());
            let vantage = maker.random.once_in(2).then(|| maker.random.pick(&maker.vantages).clone());
            let from = maker.random.between(maker.start, maker.end);
            (target, vantage, from, from + maker.random.between(1, 8 * maker.period))
        };
        (0..count).map(|_| trouble(self)).collect()
    }

    fn samples(&mut self) {
        let troubles = self.troubles();
        let flaky = self.random.pick(&[0, 0, 10, 40]).to_owned();
        let (all, vantages): (Vec<_>, _) = (self.targets.iter().chain(&self.anchors).cloned().collect(), self.vantages.clone());
        for target in &all {
            for (place, vantage) in vantages.iter().enumerate() {
                if self.random.once_in(20) {
                    continue;
                }
                let skew = if self.random.once_in(8) { self.random.between(-2 * S, 2 * S) } else { 0 };
                let delay = if self.random.once_in(6) { self.random.between(0, 400 * S) } else { 0 };
                let mut run = self.random.below(1000);
                let (mut seq, mut period) = (0, self.period);
                let mut t0 = self.start + self.random.between(0, self.period) * i64::from(place as u32 + 1) / 4;
                while t0 < self.end {
                    if self.random.once_in(60) {
                        (run, seq) = (run + 1000, 0);
                    }
                    if self.random.once_in(60) {
                        period = *self.random.pick(&[self.period, self.period * 2, self.period / 2]);
                    }
                    if !self.random.once_in(12) {
                        self.sample(target, vantage, (run, seq), t0 + skew, period, delay, &troubles, flaky);
                    }
                    seq += 1;
                    t0 += period;
                }
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one sample has that many parts")]
    fn sample(
        &mut self,
        target: &str,
        vantage: &str,
        (run, seq): (u64, u64),
        t0: i64,
        period: i64,
        delay: i64,
        troubles: &[(Option<String>, Option<String>, i64, i64)],
        flaky: u64,
    ) {
        let hit = |(of, from_where, from, to): &(Option<String>, Option<String>, i64, i64)| {
            of.as_deref().is_none_or(|of| of == target)
                && from_where.as_deref().is_none_or(|by| by == vantage)
                && (*from..*to).contains(&t0)
        };
        let fails = troubles.iter().any(hit) || flaky > 0 && self.random.once_in(flaky);
        let outcome = if self.random.once_in(25) {
            "void"
        } else if fails {
            "fail"
        } else {
            "ok"
        };
        let took = if fails { self.timeout } else { self.random.between(0, 300_000) };
        let appended = t0 + took + self.random.between(0, 2 * S) + delay;
        let clock_error = if self.random.once_in(30) { 1_000_001 } else { 350 };
        let latency = if outcome == "ok" && !self.random.once_in(9) { json!(took) } else { Value::Null };
        let mut record = json!({"v": 1, "type": "sample", "target": target, "vantage": vantage, "run": format!("r{run}"), "seq": seq,
            "t0": t0, "t1": t0 + took, "outcome": outcome, "period_us": period, "timeout_us": self.timeout,
            "clock_error_us": clock_error, "latency_us": latency, "appended_at": appended});
        self.records.push(record.clone());
        if self.random.once_in(25) {
            // The same again, or something else under the same identity, later.
            if self.random.once_in(2) {
                record["outcome"] = (*self.random.pick(&["ok", "void", "fail"])).into();
                let moved = self.random.between(-self.period, self.period);
                record["t0"] = (t0 + moved).into();
                record["t1"] = (t0 + moved + took).into();
            }
            record["appended_at"] = (appended + self.random.between(0, 60 * S)).into();
            self.records.push(record);
        }
    }

    fn claims(&mut self) {
        for claim in 0..self.random.below(4) {
            let opened = self.some_time();
            for rev in 1..=1 + self.random.below(3) {
                let service = self.random.pick(&self.services).clone();
                let resolved = if self.random.once_in(2) { json!(opened + self.random.between(1, 200 * S)) } else { Value::Null };
                let state = *self.random.pick(&["received", "accepted", "accepted", "rejected"]);
                let appended = opened.max(resolved.as_i64().unwrap_or(opened)) + self.random.between(-2 * S, 120 * S);
                self.records.push(json!({"v": 1, "type": "claim", "id": format!("T{claim}"), "rev": rev, "service": service,
                    "opened_at": opened, "resolved_at": resolved, "state": state, "appended_at": appended}));
            }
        }
    }

    fn exclusions(&mut self) {
        for exclusion in 0..self.random.below(4) {
            for rev in 1..=1 + self.random.below(3) {
                let (start, length) = (self.some_time(), self.random.between(1, 200 * S));
                let kind = *self.random.pick(&["maintenance", "maintenance", "throttling", "customer"]);
                let appended = start + self.random.between(-100 * S, 60 * S);
                let override_by = if self.random.once_in(4) { json!("someone") } else { Value::Null };
                self.records.push(json!({"v": 1, "type": "exclusion", "id": format!("M{exclusion}"), "rev": rev, "kind": kind,
                    "services": [self.random.pick(&self.services)], "start": start, "end": start + length,
                    "state": *self.random.pick(&["approved", "approved", "approved", "withdrawn"]), "override_by": override_by,
                    "appended_at": appended}));
            }
        }
    }
}
