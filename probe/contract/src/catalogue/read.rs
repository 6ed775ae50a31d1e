//! From the text to a catalogue whose names are resolved, or to all its mistakes (SPEC §2).

use std::collections::HashMap;
use std::ops::Range;

use toml::de::DeTable;

use super::block::{self, Blocks, IndicatorBlock, NeedText, ServiceBlock, TargetBlock, VantageBlock, majority};
use super::live;
use super::problem::{Problem, Severity};
use super::table::{Name, Problems, Table, nearest};
use super::{Catalogue, Indicator, Need, Plan, Service, Target, TargetIx, Terms, Vantage, Versions};
use crate::calendar::Calendar;
use crate::time::Span;

/// How much a catalogue must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// What SPEC §3 to §6 use: enough for `vigie replay` and for the engine.
    Replay,
    /// What the live programs and `vigie check` ask for besides.
    Live,
}

/// Everything that is written, before names are resolved.
pub(super) struct Text<'a> {
    pub(super) indicators: Vec<Blocks<'a, IndicatorBlock>>,
    pub(super) vantages: Vec<Blocks<'a, VantageBlock<'a>>>,
    pub(super) targets: Vec<Blocks<'a, TargetBlock<'a>>>,
    pub(super) services: Vec<Blocks<'a, ServiceBlock<'a>>>,
}

impl Catalogue {
    /// Reads a catalogue. The result has the warnings beside it, the error has every problem there is, in the order of the text.
    pub fn read(text: &str, strictness: Strictness) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let (root, syntax_errors) = DeTable::parse_recoverable(text);
        let mut problems = Problems { list: syntax_errors.iter().map(syntax_problem).collect(), partial: !syntax_errors.is_empty() };
        let catalogue = read_root(&root, strictness, &mut problems);
        let mut problems = problems.list;
        problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
        // What is wrong with a definition is found again at each of its uses.
        problems.dedup();
        match catalogue {
            Some(catalogue) if problems.iter().all(|problem| problem.severity == Severity::Warning) => Ok((catalogue, problems)),
            _ => Err(problems),
        }
    }
}

fn syntax_problem(error: &toml::de::Error) -> Problem {
    let message = error.message().lines().collect::<Vec<_>>().join("; ");
    Problem::error(&error.span().unwrap_or(0..0), format!("not TOML: {message}"), "here")
}

fn read_root(root: &toml::Spanned<DeTable<'_>>, strictness: Strictness, problems: &mut Problems) -> Option<Catalogue> {
    let mut root = Table::new("the catalogue", 0..0, root.get_ref());
    let tenant = root.get("tenant").and_then(|item| item.name(problems)).map(|name| name.text.to_owned());
    let calendar = calendar(&mut root, problems);
    let settle = root.get("settle").map_or(Some(Span::from_secs(3)), |item| item.duration(problems));
    let stable_up = root.get("stable_up").map_or(Some(Span::from_secs(30)), |item| item.duration(problems));
    let claim_horizon = root.get("claim_horizon").map_or(Some(Span::from_secs(15 * 60)), |item| item.duration(problems));
    let late_horizon = root.get("late_horizon").map_or(Some(Span::from_secs(96 * 3600)), |item| item.duration_above_zero(problems));
    let text = Text {
        indicators: block::read_blocks(&mut root, "indicator", "this [[indicator]]", problems, IndicatorBlock::read),
        vantages: block::read_blocks(&mut root, "vantage", "this [[vantage]]", problems, VantageBlock::read),
        targets: block::read_blocks(&mut root, "target", "this [[target]]", problems, TargetBlock::read),
        services: block::read_blocks(&mut root, "service", "this [[service]]", problems, ServiceBlock::read),
    };
    root.finish(problems);
    // Without a time zone the rest is still looked through, so that all mistakes come at once.
    let (calendar, has_calendar) = (calendar.clone().or_else(|| Calendar::of_zone("UTC"))?, calendar.is_some());
    if strictness == Strictness::Live {
        live::check_text(&text, problems);
    }
    let catalogue = Resolver::new(&text, &calendar, has_calendar).resolve(stable_up.unwrap_or_default(), problems);
    let (indicators, vantages, targets, services) = catalogue?;
    // A default stands for what could not be read: its problem refuses the catalogue, after the rest has been looked through.
    let catalogue = Catalogue {
        tenant,
        calendar,
        settle: settle.unwrap_or_default(),
        claim_horizon: claim_horizon.unwrap_or_default(),
        late_horizon: late_horizon.unwrap_or_default(),
        indicators,
        vantages,
        targets,
        services,
    };
    if strictness == Strictness::Live {
        live::check_meaning(&catalogue, &text, problems);
    }
    Some(catalogue)
}

fn calendar(root: &mut Table<'_>, problems: &mut Problems) -> Option<Calendar> {
    let Some(item) = root.get("timezone") else { return Calendar::of_zone("Europe/Paris") };
    let name = item.name(problems)?;
    let calendar = Calendar::of_zone(name.text);
    if calendar.is_none() {
        let problem = item.wrong(format!("there is no time zone `{}`", name.text), "unknown time zone");
        problems.push(problem.help("use an IANA name such as \"Europe/Paris\" or \"UTC\""));
    }
    calendar
}

/// What a name stands for, and where it is defined.
type Index<'a> = HashMap<&'a str, usize>;

struct Resolver<'a> {
    text: &'a Text<'a>,
    calendar: &'a Calendar,
    has_calendar: bool,
    indicators: Index<'a>,
    vantages: Index<'a>,
    targets: Index<'a>,
    services: Index<'a>,
}

fn index<'a, T>(groups: &'a [Blocks<'a, T>]) -> Index<'a> {
    groups.iter().enumerate().map(|(place, group)| (group[0].id.text, place)).collect()
}

type Resolved = (Vec<Indicator>, Vec<Vantage>, Vec<Target>, Vec<Service>);

impl<'a> Resolver<'a> {
    fn new(text: &'a Text<'a>, calendar: &'a Calendar, has_calendar: bool) -> Self {
        let (indicators, vantages) = (index(&text.indicators), index(&text.vantages));
        Self { text, calendar, has_calendar, indicators, vantages, targets: index(&text.targets), services: index(&text.services) }
    }

    /// Resolves everything; `None` if a name dangles, which is then a problem.
    fn resolve(mut self, stable_up: Span, problems: &mut Problems) -> Option<Resolved> {
        let indicators: Vec<_> = self.text.indicators.iter().map(|group| self.indicator(group, problems)).collect();
        let vantages: Vec<_> = self.text.vantages.iter().map(|group| self.vantage(group, problems)).collect();
        let undeclared = self.undeclared_vantages();
        let targets: Vec<_> = self.text.targets.iter().map(|group| self.target(group, problems)).collect();
        let services: Vec<_> = self.text.services.iter().map(|group| self.service(group, stable_up, problems)).collect();
        self.refuse_cycles(problems);
        let services: Vec<Service> = services.into_iter().collect::<Option<_>>()?;
        let mut vantages: Vec<Vantage> = vantages.into_iter().collect::<Option<_>>()?;
        vantages.extend(undeclared);
        Some((indicators, vantages, targets.into_iter().collect(), services))
    }

    fn indicator(&self, group: &Blocks<'_, IndicatorBlock>, problems: &mut Problems) -> Indicator {
        for later in &group[1..] {
            let Some((since, span)) = &later.since else { continue };
            if self.has_calendar && !self.calendar.is_month_start(*since) {
                let message = format!("a later version of `{}` must begin with a month", later.id.text);
                let month = self.calendar.month_of(*since);
                let (start, end) = (self.calendar.start_of(month), self.calendar.end_of(month));
                let problem = Problem::error(span, message, format!("not a local month start in {}", self.calendar.zone_name()));
                problems.push(problem.help(format!("{month} begins at {start}, {} at {end}", month.next())));
            }
        }
        let terms = |block: &IndicatorBlock| Terms { budget_ppm: block.budget_ppm, exclusions: block.exclusions.clone() };
        let name = group.iter().rev().find_map(|block| block.body.name.clone());
        Indicator {
            id: group[0].id.text.into(),
            name,
            terms: versions(group, |block| Some(terms(block))).unwrap_or(Versions::one(terms(&group[0].body))),
        }
    }

    fn vantage(&self, group: &Blocks<'a, VantageBlock<'a>>, problems: &mut Problems) -> Option<Vantage> {
        let anchors = versions(group, |block| {
            let anchors: Vec<_> = block.anchors.iter().map(|name| find(&self.targets, name, "target", problems)).collect();
            anchors.into_iter().collect::<Option<Vec<TargetIx>>>()
        });
        Some(Vantage { id: group[0].id.text.into(), declared: true, anchors: anchors? })
    }

    /// The vantages that targets only name: for `replay` that is enough.
    fn undeclared_vantages(&mut self) -> Vec<Vantage> {
        let mut undeclared = Vec::new();
        for name in self.text.targets.iter().flatten().flat_map(|block| &block.body.vantages) {
            let next = self.vantages.len();
            self.vantages.entry(name.text).or_insert_with(|| {
                undeclared.push(Vantage { id: name.text.into(), declared: false, anchors: Versions::one(Vec::new()) });
                next
            });
        }
        undeclared
    }

    fn target(&self, group: &Blocks<'_, TargetBlock<'_>>, problems: &mut Problems) -> Target {
        let plan = |block: &TargetBlock<'_>| Plan {
            vantages: block.vantages.iter().filter_map(|name| self.vantages.get(name.text).copied()).collect(),
            down_quorum: block.down_quorum.unwrap_or(majority(block.vantages.len())),
            latency_objective: block.latency_objective,
            period: block.period.as_ref().map(|(period, _)| *period),
            timeout: block.timeout,
            check: block.check.clone(),
        };
        let group_name = one_group(group, |block| block.group.as_deref(), problems);
        let plans = versions(group, |block| Some(plan(block))).unwrap_or(Versions::one(plan(&group[0].body)));
        Target { id: group[0].id.text.into(), group: group_name, plan: plans }
    }

    fn service(&self, group: &Blocks<'a, ServiceBlock<'a>>, default_stable_up: Span, problems: &mut Problems) -> Option<Service> {
        let (first, last) = (&group[0], &group[group.len() - 1]);
        let indicator = match &first.body.indicator {
            Some(name) => find(&self.indicators, name, "indicator", problems),
            None => {
                let problem =
                    Problem::error(&first.span, format!("service `{}` has no `indicator`", first.id.text), "`indicator` is missing");
                problems.push_absence(problem.help("name the contractual line that it belongs to: `indicator = \"…\"`"));
                None
            }
        };
        let stable_up = first.body.stable_up.as_ref().map_or(default_stable_up, |(span, _)| *span);
        let contractual = first.body.contractual.as_ref().is_none_or(|(contractual, _)| *contractual);
        for later in &group[1..] {
            let (id, body) = (later.id.text, &later.body);
            if let (Some(name), Some(of_first)) = (&body.indicator, &first.body.indicator)
                && name.text != of_first.text
            {
                problems.push(differs(id, "indicator", &name.span, &first.span));
            }
            if let Some((_, span)) = body.stable_up.as_ref().filter(|(of_later, _)| *of_later != stable_up) {
                problems.push(differs(id, "stable_up", span, &first.span));
            }
            if let Some((_, span)) = body.contractual.as_ref().filter(|(of_later, _)| *of_later != contractual) {
                problems.push(differs(id, "contractual", span, &first.span));
            }
        }
        for block in group {
            if let (Some((until, span)), Some((since, since_span))) = (&block.body.until, &block.since)
                && until <= since
            {
                let problem = Problem::error(span, format!("service `{}` ends before it begins", first.id.text), "the end");
                problems.push(problem.note(since_span, "the beginning").help("`until` must be later than `since`"));
            }
        }
        let needs = versions(group, |block| self.need(block.needs.as_ref()?, problems));
        let group_name = one_group(group, |block| block.group.as_deref(), problems);
        Some(Service {
            id: first.id.text.into(),
            indicator: indicator?,
            contractual,
            stable_up,
            group: group_name,
            since: first.since.as_ref().map(|(since, _)| *since),
            until: last.body.until.as_ref().map(|(until, _)| *until),
            needs: needs?,
        })
    }

    fn need(&self, text: &NeedText<'_>, problems: &mut Problems) -> Option<Need> {
        let list = |texts: &[NeedText<'_>], problems: &mut Problems| {
            let needs: Vec<_> = texts.iter().map(|text| self.need(text, problems)).collect();
            needs.into_iter().collect::<Option<Vec<_>>>()
        };
        match text {
            NeedText::Name(name) => self.leaf(name, problems),
            NeedText::All(texts) => list(texts, problems).map(Need::All),
            NeedText::Any(texts) => list(texts, problems).map(Need::Any),
            NeedText::AtLeast(k, texts) => list(texts, problems).map(|needs| Need::AtLeast(*k, needs)),
        }
    }

    fn leaf(&self, name: &Name<'_>, problems: &mut Problems) -> Option<Need> {
        match (self.targets.get(name.text), self.services.get(name.text)) {
            (Some(&target), None) => Some(Need::Target(target)),
            (None, Some(&service)) => Some(Need::Service(service)),
            (None, None) => {
                let names = self.targets.keys().chain(self.services.keys()).copied();
                problems.push_absence(dangling(name, "target or service", names, problems.list.len()));
                None
            }
            (Some(&target), Some(&service)) => {
                let places = (&self.text.targets[target][0].id.span, &self.text.services[service][0].id.span);
                let problem = Problem::error(places.1, format!("`{}` is the id of a target and of a service", name.text), "the service");
                problems.push(problem.note(places.0, "the target").help("rename one of them: `needs` could mean either"));
                None
            }
        }
    }

    /// Services whose expressions need each other, in whatever version, have no meaning.
    fn refuse_cycles(&self, problems: &mut Problems) {
        let needs: Vec<Vec<usize>> = self.text.services.iter().map(|group| self.needed_services(group)).collect();
        // Kahn's: take away, again and again, what needs nothing that is left.
        let mut users = vec![Vec::new(); needs.len()];
        for (service, inner) in needs.iter().enumerate() {
            inner.iter().for_each(|&inner| users[inner].push(service));
        }
        let mut open: Vec<usize> = needs.iter().map(Vec::len).collect();
        let mut free: Vec<usize> = (0..needs.len()).filter(|&service| open[service] == 0).collect();
        while let Some(service) = free.pop() {
            for &user in &users[service] {
                open[user] -= 1;
                if open[user] == 0 {
                    free.push(user);
                }
            }
        }
        for ring in rings(&needs, &open) {
            let names: Vec<_> = ring.iter().take(8).map(|&service| self.text.services[service][0].id.text).collect();
            let more = if ring.len() > names.len() { format!(" → … {} services …", ring.len()) } else { String::new() };
            let message = format!("services need each other: {}{more} → {}", names.join(" → "), names[0]);
            let problem = Problem::error(&self.text.services[ring[0]][0].id.span, message, "part of a cycle");
            problems.push(problem.help("take one of these needs away"));
        }
    }

    fn needed_services(&self, group: &Blocks<'a, ServiceBlock<'a>>) -> Vec<usize> {
        let mut inner = Vec::new();
        for need in group.iter().filter_map(|block| block.body.needs.as_ref()) {
            // What is also the id of a target is refused for that.
            need.for_each_name(&mut |name| inner.extend(self.services.get(name.text).filter(|_| !self.targets.contains_key(name.text))));
        }
        inner
    }
}

/// Among the services that are left, each of which needs another one that is: follows needs until one comes again, which is a cycle.
fn rings(needs: &[Vec<usize>], open: &[usize]) -> Vec<Vec<usize>> {
    let mut rings = Vec::new();
    let mut walk_of = vec![None; needs.len()];
    for start in (0..needs.len()).filter(|&service| open[service] > 0) {
        let (mut path, mut next) = (Vec::new(), Some(start));
        while let Some(at) = next.filter(|&at| walk_of[at].is_none()) {
            walk_of[at] = Some(start);
            path.push(at);
            next = needs[at].iter().copied().find(|&inner| open[inner] > 0);
        }
        if let Some(first) = path.iter().position(|&at| next == Some(at)) {
            let mut ring = path.split_off(first);
            let lowest = ring.iter().enumerate().min_by_key(|(_, service)| **service).map_or(0, |(place, _)| place);
            ring.rotate_left(lowest);
            rings.push(ring);
        }
    }
    rings
}

fn versions<A, B>(group: &Blocks<'_, A>, mut body: impl FnMut(&A) -> Option<B>) -> Option<Versions<B>> {
    let bodies: Vec<_> = group.iter().map(|block| body(&block.body)).collect();
    let mut bodies = bodies.into_iter();
    let first = bodies.next().flatten();
    let later = group[1..].iter().zip(bodies).map(|(block, body)| Some((block.since.as_ref()?.0, body?))).collect::<Option<Vec<_>>>();
    let (first, later) = (first?, later?);
    // Two versions that begin together are refused already.
    later.is_sorted_by(|a, b| a.0 < b.0).then(|| Versions::new(first, later))
}

fn find(index: &Index<'_>, name: &Name<'_>, what: &str, problems: &mut Problems) -> Option<usize> {
    let place = index.get(name.text).copied();
    if place.is_none() {
        problems.push_absence(dangling(name, what, index.keys().copied(), problems.list.len()));
    }
    place
}

fn dangling<'n>(name: &Name<'_>, what: &str, known: impl Iterator<Item = &'n str>, so_far: usize) -> Problem {
    let problem = Problem::error(&name.span, format!("there is no {what} `{}`", name.text), "unknown name");
    // Comparing every dangling name with every known one is for people, who do not read the hundredth.
    let mut near: Vec<&str> = if so_far < 100 { known.collect() } else { Vec::new() };
    near.sort_unstable();
    match nearest(name.text, near.into_iter()) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem.help("define it, or name one that is defined"),
    }
}

fn differs(id: &str, key: &str, span: &Range<usize>, first: &Range<usize>) -> Problem {
    let problem = Problem::error(span, format!("`{key}` of service `{id}` cannot change"), "differs from the first block's");
    problem.note(first, "the first block").help(format!("leave `{key}` out here, or give the changed service another id"))
}

/// The group is where evidence travels: it has no versions.
fn one_group<T>(blocks: &Blocks<'_, T>, group: impl Fn(&T) -> Option<&str>, problems: &mut Problems) -> String {
    let first = group(&blocks[0].body).unwrap_or("main");
    for later in &blocks[1..] {
        let of_later = group(&later.body).unwrap_or("main");
        if of_later != first {
            let message = format!("the group of `{}` cannot change from `{first}` to `{of_later}`", later.id.text);
            let problem = Problem::error(&later.span, message, "another group").note(&blocks[0].span, "the first block");
            problems.push(problem.help("write the same `group` in every block"));
        }
    }
    first.to_owned()
}
