//! What `vigie check` and the live programs ask for beyond SPEC §3 to §6 (SPEC §2, §1 for the retry, DESIGN §4 for groups).

use super::block::{Block, TargetBlock, plural};
use super::problem::Problem;
use super::read::Text;
use super::table::Problems;
use super::{Catalogue, Need, Plan};
use crate::time::Span;

/// A second attempt begins at least this long after the first (SPEC §1).
const RETRY_AFTER: Span = Span::from_us(1_100_000);

pub(super) fn check(catalogue: &Catalogue, text: &Text<'_>, problems: &mut Problems) {
    for block in text.targets.iter().flatten() {
        check_probing(block, problems);
    }
    check_declared(catalogue, text, problems);
    check_services(catalogue, text, problems);
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

fn check_declared(catalogue: &Catalogue, text: &Text<'_>, problems: &mut Problems) {
    for name in text.targets.iter().flatten().flat_map(|block| &block.body.vantages) {
        if catalogue.vantages.iter().any(|vantage| !vantage.declared && vantage.id.as_str() == name.text) {
            let problem = Problem::error(&name.span, format!("vantage `{}` is not declared", name.text), "a silent voter, if it is a typo");
            let declared = catalogue.vantages.iter().filter(|vantage| vantage.declared).map(|vantage| vantage.id.as_str());
            problems.push_absence(problem.help(match super::table::nearest(name.text, declared) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add [[vantage]] with id = \"{}\" and its anchors", name.text),
            }));
        }
    }
}

fn check_services(catalogue: &Catalogue, text: &Text<'_>, problems: &mut Problems) {
    for (service, blocks) in catalogue.services.iter().zip(&text.services) {
        let first = &blocks[0];
        if service.contractual && service.since.is_none() {
            let problem = Problem::error(&first.span, format!("contractual service `{}` has no `since`", service.id), "`since` is missing");
            problems.push_absence(problem.help("write the instant from which the contract measures it, or `contractual = false`"));
        }
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
    for block in text.vantages.iter().flatten() {
        let anchors = &block.body.anchors;
        let span = block.body.anchors_span.as_ref().unwrap_or(&block.span);
        first_anchors = first_anchors.or(Some(span));
        if anchors.len() < 2 {
            let problem = Problem::error(
                span,
                format!("vantage `{}` has {}", block.id.text, plural(anchors.len(), "anchor")),
                "at least two are needed",
            );
            problems.push_absence(problem.help("without them, a cut-off probe cannot be told from an outage"));
        }
        for anchor in anchors {
            let Some(target) = catalogue.targets.iter().position(|target| target.id.as_str() == anchor.text) else { continue };
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
