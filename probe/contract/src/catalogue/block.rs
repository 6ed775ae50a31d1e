//! The blocks of a catalogue as they are written, one struct each; nothing is looked up yet.

use std::ops::Range;

use super::problem::Problem;
use super::table::{Item, Name, Problems, Table};
use crate::exclusion::ExclusionKind;
use crate::time::{Span, Time};

/// One `[[…]]` block: one version of the thing that `id` names.
pub(super) struct Block<'a, T> {
    pub(super) id: Name<'a>,
    pub(super) span: Range<usize>,
    pub(super) since: Option<(Time, Range<usize>)>,
    /// A `since` is written but no instant: its own problem, and the order of the versions is not known.
    pub(super) unclear_since: bool,
    pub(super) body: T,
}

/// All versions of one thing, by rising `since`.
pub(super) type Blocks<'a, T> = Vec<Block<'a, T>>;

pub(super) struct IndicatorBlock {
    pub(super) name: Option<String>,
    pub(super) budget_ppm: u32,
    pub(super) exclusions: Vec<ExclusionKind>,
}

pub(super) struct VantageBlock<'a> {
    pub(super) anchors: Vec<Name<'a>>,
    pub(super) anchors_span: Option<Range<usize>>,
}

pub(super) struct TargetBlock<'a> {
    pub(super) group: Option<String>,
    pub(super) vantages: Vec<Name<'a>>,
    pub(super) down_quorum: Option<usize>,
    pub(super) latency_objective: Option<Span>,
    pub(super) period: Option<(Span, Range<usize>)>,
    pub(super) timeout: Option<Span>,
    pub(super) check: Option<serde_json::Value>,
}

pub(super) struct ServiceBlock<'a> {
    pub(super) indicator: Option<Name<'a>>,
    pub(super) needs: Option<NeedText<'a>>,
    pub(super) until: Option<(Time, Range<usize>)>,
    pub(super) group: Option<String>,
    pub(super) stable_up: Option<(Span, Range<usize>)>,
    pub(super) contractual: Option<(bool, Range<usize>)>,
}

/// `needs` as written.
pub(super) enum NeedText<'a> {
    Name(Name<'a>),
    All(Vec<NeedText<'a>>),
    Any(Vec<NeedText<'a>>),
    AtLeast(usize, Vec<NeedText<'a>>),
}

/// Reads the blocks of one kind and groups them by id, in the order in which the ids first appear.
pub(super) fn read_blocks<'a, T>(
    root: &mut Table<'a>,
    key: &'static str,
    what: &'static str,
    problems: &mut Problems,
    body: impl Fn(&mut Table<'a>, &mut Problems) -> T,
) -> Vec<Blocks<'a, T>> {
    let Some(list) = root.get(key) else { return Vec::new() };
    let not_blocks =
        |item: &Item<'_>| item.mismatch("a list of tables").help(format!("begin every block with [[{key}]], in double brackets"));
    let Some(items) = list.items() else {
        problems.push(not_blocks(&list));
        return Vec::new();
    };
    let mut groups: Vec<Blocks<'a, T>> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for item in items {
        let Some(mut table) = item.table(what) else {
            problems.push(not_blocks(&item));
            continue;
        };
        let id = table.need("id", problems).and_then(|item| item.name(problems));
        let written = table.get("since");
        let since = written.as_ref().and_then(|item| Some((item.instant(problems)?, item.span.clone())));
        let unclear_since = written.is_some() && since.is_none();
        let body = body(&mut table, problems);
        let span = table.span.clone();
        table.finish(problems);
        let Some(id) = id else { continue };
        let place = *places.entry(id.text).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[place].push(Block { id, span, since, unclear_since, body });
    }
    for group in &mut groups {
        put_in_order(group, problems);
    }
    groups
}

fn put_in_order<T>(group: &mut Blocks<'_, T>, problems: &mut Problems) {
    group.sort_by_key(|block| block.since.as_ref().map(|(since, _)| *since));
    for pair in group.windows(2) {
        let (earlier, later) = (&pair[0], &pair[1]);
        let since = |block: &Block<'_, T>| block.since.as_ref().map(|(since, _)| *since);
        if since(earlier) == since(later) && !earlier.unclear_since && !later.unclear_since {
            let message = match since(earlier) {
                Some(since) => format!("two versions of `{}` begin at {since}", later.id.text),
                None => format!("two blocks of `{}` without `since`", later.id.text),
            };
            let problem = Problem::error(&later.id.span, message, "second block").note(&earlier.id.span, "first block");
            problems.push(problem.help("versions of one thing need different `since`; different things need different ids"));
        }
    }
}

impl IndicatorBlock {
    pub(super) fn read(table: &mut Table<'_>, problems: &mut Problems) -> Self {
        let name = table.get("name").and_then(|item| item.string(problems)).map(str::to_owned);
        let budget_ppm = table.need("objective", problems).and_then(|item| budget_ppm(&item, problems));
        let exclusions = table.get("exclusions").and_then(|item| item.names(problems)).unwrap_or_default();
        let exclusions = exclusions.iter().filter_map(|word| exclusion_kind(word, problems)).collect();
        Self { name, budget_ppm: budget_ppm.unwrap_or_default(), exclusions }
    }
}

fn exclusion_kind(word: &Name<'_>, problems: &mut Problems) -> Option<ExclusionKind> {
    let kind = ExclusionKind::from_word(word.text);
    if kind.is_none() {
        let words = ExclusionKind::ALL.map(ExclusionKind::as_str);
        let help = match super::table::nearest(word.text, words.into_iter()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("kinds are: {}", words.join(", ")),
        };
        problems.push(Problem::error(&word.span, format!("there is no exclusion of kind `{}`", word.text), "unknown kind").help(help));
    }
    kind
}

/// `ppm = (100 − objective) · 10⁴`, exactly.
fn budget_ppm(item: &Item<'_>, problems: &mut Problems) -> Option<u32> {
    let text = item.decimal(problems)?;
    let ppm = parts_per_million(&text);
    if ppm.is_none() {
        let problem = item.wrong(format!("`{text}` is not a percentage with at most four decimals"), "not an objective");
        problems.push(problem.help("write a decimal from 0 to 100, such as \"99.99\""));
    }
    ppm
}

fn parts_per_million(percent: &str) -> Option<u32> {
    let (whole, decimals) = percent.split_once('.').unwrap_or((percent, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // Zeroes at the end are no decimals more: a float may come as 99.990000.
    let kept = decimals.trim_end_matches('0');
    if !digits(whole) || !digits(decimals) || kept.len() > 4 {
        return None;
    }
    let whole: u32 = whole.parse().ok().filter(|&whole| whole <= 100)?;
    let ten_thousandths: u32 = format!("{kept:0<4}").parse().ok()?;
    1_000_000_u32.checked_sub(whole * 10_000 + ten_thousandths)
}

impl<'a> VantageBlock<'a> {
    pub(super) fn read(table: &mut Table<'a>, problems: &mut Problems) -> Self {
        let item = table.get("anchors");
        let anchors = item.as_ref().and_then(|item| item.names(problems)).unwrap_or_default();
        Self { anchors, anchors_span: item.map(|item| item.span) }
    }
}

impl<'a> TargetBlock<'a> {
    pub(super) fn read(table: &mut Table<'a>, problems: &mut Problems) -> Self {
        let item = table.need("vantages", problems);
        let vantages = item.as_ref().and_then(|item| item.names(problems));
        if let (Some(item), Some([])) = (&item, vantages.as_deref()) {
            problems.push(item.wrong("a target needs a vantage", "nobody checks it").help("name at least one vantage"));
        }
        let vantages = vantages.unwrap_or_default();
        let down_quorum = table.get("down_quorum").and_then(|item| {
            let quorum = item.count(problems)?;
            if !vantages.is_empty() && !(1..=vantages.len()).contains(&quorum) {
                let problem =
                    item.wrong(format!("a quorum of {quorum} is out of range"), format!("{} assigned", plural(vantages.len(), "vantage")));
                problems.push(problem.help(format!(
                    "write a number from 1 to {}, or leave it out for {}",
                    vantages.len(),
                    majority(vantages.len())
                )));
                return None;
            }
            Some(quorum)
        });
        let mut above_zero = |key| table.get(key).and_then(|item| Some((item.duration_above_zero(problems)?, item.span)));
        let latency_objective = above_zero("latency_objective").map(|(span, _)| span);
        let period = above_zero("period");
        let timeout = above_zero("timeout").map(|(span, _)| span);
        let check = table.get("check").and_then(|item| item.json(problems));
        let group = group(table, problems);
        Self { group, vantages, down_quorum, latency_objective, period, timeout, check }
    }
}

/// The default quorum: more than half.
pub(super) fn majority(vantages: usize) -> usize {
    vantages / 2 + 1
}

pub(super) fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

impl<'a> ServiceBlock<'a> {
    pub(super) fn read(table: &mut Table<'a>, problems: &mut Problems) -> Self {
        Self {
            indicator: table.get("indicator").and_then(|item| item.name(problems)),
            needs: table.need("needs", problems).and_then(|item| NeedText::read(&item, problems)),
            until: table.get("until").and_then(|item| Some((item.end_instant(problems)?, item.span))),
            group: group(table, problems),
            stable_up: table.get("stable_up").and_then(|item| Some((item.duration(problems)?, item.span))),
            contractual: table.get("contractual").and_then(|item| Some((item.boolean(problems)?, item.span))),
        }
    }
}

fn group(table: &mut Table<'_>, problems: &mut Problems) -> Option<String> {
    table.get("group").and_then(|item| item.name(problems)).map(|name| name.text.to_owned())
}

impl<'a> NeedText<'a> {
    /// Every name in it.
    pub(super) fn for_each_name(&self, visit: &mut impl FnMut(&Name<'a>)) {
        match self {
            Self::Name(name) => visit(name),
            Self::All(needs) | Self::Any(needs) | Self::AtLeast(_, needs) => needs.iter().for_each(|need| need.for_each_name(visit)),
        }
    }

    fn read(item: &Item<'a>, problems: &mut Problems) -> Option<Self> {
        const SHAPE: &str = "write a name, { all = […] }, { any = […] } or { at_least = k, of = […] }";
        let Some(mut table) = item.table("this `needs`") else {
            if !item.is_string() {
                problems.push(item.mismatch("a name or an expression").help(SHAPE));
                return None;
            }
            return item.name(problems).map(NeedText::Name);
        };
        let (all, any, at_least, of) = (table.get("all"), table.get("any"), table.get("at_least"), table.get("of"));
        table.finish(problems);
        match (all, any, at_least, of) {
            (Some(list), None, None, None) => Self::list(&list, problems).map(NeedText::All),
            (None, Some(list), None, None) => Self::list(&list, problems).map(NeedText::Any),
            (None, None, Some(at_least), Some(list)) => {
                let (of, k) = (Self::list(&list, problems), at_least.count(problems));
                let (of, k) = (of?, k?);
                if !(1..=of.len()).contains(&k) {
                    let problem = at_least.wrong(format!("{k} of {} is out of range", of.len()), format!("1 to {}", of.len()));
                    problems.push(problem.help(format!("write a number from 1 to {}", of.len())));
                    return None;
                }
                Some(NeedText::AtLeast(k, of))
            }
            _ => {
                problems.push(Problem::error(&item.span, "`needs` has no such expression", "not an expression").help(SHAPE));
                None
            }
        }
    }

    fn list(item: &Item<'a>, problems: &mut Problems) -> Option<Vec<Self>> {
        let items = item.array("a list", problems)?;
        if items.is_empty() {
            problems.push(item.wrong("an empty list promises nothing", "empty").help("name at least one target or service"));
            return None;
        }
        let needs: Vec<_> = items.iter().map(|item| Self::read(item, problems)).collect();
        needs.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::parts_per_million;

    #[test]
    fn objectives_are_exact() {
        for (percent, ppm) in
            [("99.99", 100), ("97", 30_000), ("99.9999", 1), ("100", 0), ("100.0", 0), ("0", 1_000_000), ("99.990000", 100)]
        {
            assert_eq!(parts_per_million(percent), Some(ppm), "{percent}");
        }
        for percent in ["99.99999", "100.0001", "101", "-1", "1e2", "", ".5", "5.", "99,9", "nan", "inf", "+5", "4294967296"] {
            assert_eq!(parts_per_million(percent), None, "{percent}");
        }
    }
}
