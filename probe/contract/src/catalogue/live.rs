//! What `vigie check` and the live programs ask for beyond SPEC §3 to §6 (SPEC §2, §1 for the retry, DESIGN §4 for groups).

use std::collections::{BTreeMap, BTreeSet};

use super::block::{Block, Blocks, ServiceBlock, TargetBlock, plural};
use super::problem::Problem;
use super::read::Text;
use super::table::{Problems, nearest};
use super::{Catalogue, Need, Plan};
use crate::time::Span;

/// A second attempt begins at least this long after the first (SPEC §1).
const RETRY_AFTER: Span = Span::from_us(1_100_000);

/// What each block must have, whatever the names in it stand for.
pub(super) fn check_text(text: &Text<'_>, problems: &mut Problems) {
    for block in text.targets.iter().flatten() {
        check_probing(block, problems);
    }
    for block in text.vantages.iter().flatten().filter(|block| block.body.anchors.len() < 2) {
        let span = block.body.anchors_span.as_ref().unwrap_or(&block.span);
        let message = format!("vantage `{}` has {}", block.id.text, plural(block.body.anchors.len(), "anchor"));
        let problem = Problem::error(span, message, "at least two are needed");
        problems.push_absence(problem.help("without them, a cut-off probe cannot be told from an outage"));
    }
    check_declared(text, problems);
    for blocks in &text.services {
        check_measurement(blocks, problems);
    }
}

/// What the whole must mean, once every name stands for something.
pub(super) fn check_meaning(catalogue: &Catalogue, text: &Text<'_>, problems: &mut Problems) {
    check_groups(catalogue, text, problems);
    check_anchors(catalogue, text, problems);
}

fn check_probing(block: &Block<'_, TargetBlock<'_>>, problems: &mut Problems) {
    let (id, body) = (block.id.text, &block.body);
    let given = [("period", body.period.is_some()), ("timeout", body.timeout.is_some()), ("check", body.check.is_some())];
    for (key, _) in given.iter().filter(|(_, given)| !given) {
        let problem = Problem::error(&block.span, format!("target `{id}` has no `{key}`"), format!("`{key}` is missing"));
        problems.push_absence(problem.help(format!("a probe needs `{key}` to measure it")));
    }
    if let (Some((period, span)), Some(timeout)) = (&body.period, body.timeout) {
        let shortest = timeout + timeout + RETRY_AFTER;
        if shortest >= *period {
            let problem =
                Problem::error(span, format!("two attempts at `{id}` do not fit into its period"), format!("must exceed {shortest}"));
            problems.push(problem.help(format!("2 · timeout + 1.1s < period: lengthen the period or shorten the timeout of {timeout}")));
        }
        if *period > Span::DAY || timeout > Span::DAY {
            problems.push(Problem::error(span, format!("the period and timeout of `{id}` cannot exceed 24h"), "too long"));
        }
    }
}

fn check_declared(text: &Text<'_>, problems: &mut Problems) {
    let declared: BTreeSet<&str> = text.vantages.iter().map(|blocks| blocks[0].id.text).collect();
    let mut suggestions = 0..100;
    for name in text.targets.iter().flatten().flat_map(|block| &block.body.vantages) {
        if declared.contains(name.text) {
            continue;
        }
        let problem = Problem::error(&name.span, format!("vantage `{}` is not declared", name.text), "a silent voter, if it is a typo");
        // Comparing every name with every other is for people, who do not read the hundredth.
        let near = suggestions.next().and_then(|_| nearest(name.text, declared.iter().copied()));
        problems.push_absence(problem.help(match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add [[vantage]] with id = \"{}\" and its anchors", name.text),
        }));
    }
}

fn check_measurement(blocks: &Blocks<'_, ServiceBlock<'_>>, problems: &mut Problems) {
    let (first, last) = (&blocks[0], blocks.len() - 1);
    let contractual = first.body.contractual.as_ref().is_none_or(|(contractual, _)| *contractual);
    if contractual && first.since.is_none() && !first.unclear_since {
        let problem = Problem::error(&first.span, format!("contractual service `{}` has no `since`", first.id.text), "`since` is missing");
        problems.push_absence(problem.help("write the instant from which the contract measures it, or `contractual = false`"));
    }
    for (_, span) in blocks[..last].iter().filter_map(|block| block.body.until.as_ref()) {
        let problem = Problem::warning(span, format!("this `until` does not end service `{}`", first.id.text), "a later version follows");
        problems.push(problem.note(&blocks[last].span, "the last version").help("a service ends by the `until` of its last version"));
    }
}

fn check_groups(catalogue: &Catalogue, text: &Text<'_>, problems: &mut Problems) {
    for (service, blocks) in catalogue.services.iter().zip(&text.services) {
        let first = &blocks[0];
        for need in service.needs.all() {
            need.for_each_leaf(&mut |leaf| {
                let (id, group) = match leaf {
                    Need::Target(at) => (catalogue.targets[*at].id.as_str(), &catalogue.targets[*at].group),
                    Need::Service(at) => (catalogue.services[*at].id.as_str(), &catalogue.services[*at].group),
                    _ => return,
                };
                if *group != service.group {
                    let message = format!("service `{}` of group `{}` needs `{id}` of group `{group}`", service.id, service.group);
                    problems.push(
                        Problem::error(&first.id.span, message, "spans groups").help("give both the same `group`: no service spans groups"),
                    );
                }
            });
        }
    }
}

fn check_anchors(catalogue: &Catalogue, text: &Text<'_>, problems: &mut Problems) {
    let accounted = accounted_targets(catalogue);
    let mut all_inside = true;
    let mut first_anchors = None;
    let places: BTreeMap<&str, usize> = catalogue.targets.iter().enumerate().map(|(place, target)| (target.id.as_str(), place)).collect();
    for body in text.vantages.iter().flatten().map(|block| &block.body).filter(|body| !body.anchors.is_empty()) {
        first_anchors = first_anchors.or(body.anchors_span.as_ref());
        for anchor in &body.anchors {
            let Some(&target) = places.get(anchor.text) else { continue };
            all_inside &= !catalogue.targets[target].plan.all().any(is_outside);
            if !accounted[target] {
                let problem = Problem::error(
                    &anchor.span,
                    format!("no counted service needs the anchor `{}`", anchor.text),
                    "gates, but is not accounted",
                );
                problems.push(problem.help("what gates a vantage must itself be accounted: let a contractual service need it"));
            }
        }
    }
    if let (true, Some(span)) = (all_inside, first_anchors) {
        let problem = Problem::warning(span, "all anchors are inside the region", "and so are those of every other vantage");
        problems.push(problem.help("add one beyond it, and say so in its check: outside = true"));
    }
}

fn is_outside(plan: &Plan) -> bool {
    plan.check.as_ref().and_then(|check| check.get("outside")).and_then(serde_json::Value::as_bool) == Some(true)
}

/// For each target, whether a contractual service's expression reaches it.
fn accounted_targets(catalogue: &Catalogue) -> Vec<bool> {
    let mut accounted = vec![false; catalogue.targets.len()];
    let mut seen = vec![false; catalogue.services.len()];
    let mut stack: Vec<usize> = (0..catalogue.services.len()).filter(|&at| catalogue.services[at].contractual).collect();
    while let Some(service) = stack.pop() {
        if std::mem::replace(&mut seen[service], true) {
            continue;
        }
        for need in catalogue.services[service].needs.all() {
            need.for_each_leaf(&mut |leaf| match leaf {
                Need::Target(target) => accounted[*target] = true,
                Need::Service(inner) => stack.push(*inner),
                _ => {}
            });
        }
    }
    accounted
}
