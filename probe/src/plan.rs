//! What one vantage has to measure now: read from the catalogue's versions in force (SPEC §2).

use vigie_contract::catalogue::{Catalogue, Need};
use vigie_contract::{Span, TargetId, Time, VantageId};

use crate::slot::Slots;

/// One target's share of the schedule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Assignment {
    pub(crate) target: TargetId,
    pub(crate) slots: Slots,
    pub(crate) timeout: Span,
    /// What to check, as the catalogue writes it.
    pub(crate) check: serde_json::Value,
}

/// The schedule of a vantage from an instant on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) assignments: Vec<Assignment>,
    /// When another version comes into force.
    pub(crate) until: Option<Time>,
}

/// What `vantage` has to measure at `now`. A target that no service needs any more is not probed (SPEC §2).
pub(crate) fn of(catalogue: &Catalogue, vantage: &VantageId, now: Time) -> Plan {
    let needed = needed_until(catalogue);
    let assignments = catalogue.targets.iter().zip(needed).filter(|(_, until)| *until > now).filter_map(|(target, _)| {
        let plan = target.plan.at(now);
        let place = plan.vantages.iter().position(|at| catalogue.vantages[*at].id == *vantage)?;
        let (period, timeout, check) = (plan.period?, plan.timeout?, plan.check.clone()?);
        let slots = Slots::new(target.id.as_str(), place, plan.vantages.len(), period);
        Some(Assignment { target: target.id.clone(), slots, timeout, check })
    });
    let boundaries = catalogue.targets.iter().flat_map(|target| target.plan.boundaries());
    let ends = catalogue.services.iter().filter_map(|service| service.until);
    let until = boundaries.chain(ends).filter(|at| *at > now).min();
    Plan { assignments: assignments.collect(), until }
}

/// For each target, when the last of the services that need it in any version ends; [`Time::BEGINNING`] if none ever does need it.
pub(crate) fn needed_until(catalogue: &Catalogue) -> Vec<Time> {
    let mut needed = vec![Time::BEGINNING; catalogue.targets.len()];
    for (at, outer) in catalogue.services.iter().enumerate() {
        let until = outer.until.unwrap_or(Time::FOREVER);
        for need in catalogue.reach(at).into_iter().flat_map(|service| catalogue.services[service].needs.all()) {
            need.for_each_leaf(&mut |leaf| {
                if let Need::Target(target) = leaf {
                    needed[*target] = needed[*target].max(until);
                }
            });
        }
    }
    needed
}

#[cfg(test)]
mod tests {
    use vigie_contract::catalogue::Strictness;

    use super::*;

    const TEXT: &str = r#"
[[indicator]]
id = "I"
objective = "99.99"
[[target]]
id = "a"
vantages = ["az05", "az06"]
period = "10s"
timeout = "2s"
check = { kind = "tcp", address = "127.0.0.1:1" }
[[target]]
id = "a"
since = 2026-02-01T00:00:00Z
vantages = ["az06"]
period = "10s"
timeout = "2s"
check = { kind = "tcp", address = "127.0.0.1:1" }
[[target]]
id = "idle"
vantages = ["az05"]
period = "10s"
timeout = "2s"
check = { kind = "tcp", address = "127.0.0.1:1" }
[[service]]
id = "s"
indicator = "I"
needs = "a"
until = 2026-03-01T00:00:00Z
"#;

    fn targets(vantage: &str, at: &str) -> (usize, Option<Time>) {
        let catalogue = Catalogue::read(TEXT, Strictness::Replay).unwrap().0;
        let plan = of(&catalogue, &VantageId::from(vantage), Time::parse(at).unwrap());
        (plan.assignments.len(), plan.until)
    }

    #[test]
    fn a_vantage_measures_what_it_is_assigned_while_a_service_needs_it() {
        assert_eq!(targets("az05", "2026-01-15T00:00:00Z"), (1, Time::parse("2026-02-01T00:00:00Z")));
        assert_eq!(targets("az05", "2026-02-15T00:00:00Z"), (0, Time::parse("2026-03-01T00:00:00Z")));
        assert_eq!(targets("az06", "2026-02-15T00:00:00Z"), (1, Time::parse("2026-03-01T00:00:00Z")));
        assert_eq!(targets("az06", "2026-03-01T00:00:00Z"), (0, None));
    }
}
