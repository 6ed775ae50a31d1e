use super::{SOUND, edited, read, sound};
use crate::catalogue::{Need, Strictness, Versions};
use crate::exclusion::ExclusionKind;
use crate::time::{Span, Time};

#[test]
fn the_example_is_read_as_it_is_meant() {
    let catalogue = sound(SOUND);
    assert_eq!(catalogue.tenant.as_deref(), Some("acme"));
    assert_eq!(catalogue.calendar.zone_name(), "Europe/Paris");
    assert_eq!(catalogue.settle, Span::from_secs(3));
    assert_eq!(catalogue.claim_horizon, Span::from_secs(900));
    assert_eq!(catalogue.late_horizon, Span::from_us(96 * Span::HOUR.us()));

    let indicator = &catalogue.indicators[0];
    assert_eq!(indicator.id.as_str(), "IC-INFRA-SNC-10.2");
    assert_eq!(indicator.name.as_deref(), Some("Disponibilité de l'API Stockage Objet S3"));
    let terms = indicator.terms.at(Time::from_us(0));
    assert_eq!((terms.budget_ppm, terms.objective_percent().as_str()), (100, "99.99"));
    assert_eq!(terms.exclusions, [ExclusionKind::Maintenance, ExclusionKind::Throttling]);

    assert_eq!(catalogue.vantages[0].anchors, Versions::one(vec![1, 2]));
    assert!(catalogue.vantages.iter().all(|vantage| vantage.declared));

    let plan = catalogue.targets[0].plan.at(Time::from_us(0));
    assert_eq!((plan.vantages.as_slice(), plan.down_quorum, plan.up_quorum()), ([0, 1].as_slice(), 2, 1));
    assert_eq!(plan.latency_objective, Some(Span::from_us(150_000)));
    assert_eq!((plan.period, plan.timeout), (Some(Span::from_secs(10)), Some(Span::from_secs(2))));
    assert_eq!(plan.check.as_ref().unwrap()["bucket"], "canary");

    let service = &catalogue.services[0];
    assert_eq!((service.id.as_str(), service.indicator, service.contractual), ("s3/fr1", 0, true));
    assert_eq!(service.since.unwrap().to_string(), "2025-12-31T23:00:00Z");
    assert_eq!(service.until.unwrap().to_string(), "2026-12-31T23:00:00Z");
    let any = Need::Any(vec![Need::Target(1), Need::Target(2)]);
    assert_eq!(service.needs, Versions::one(Need::All(vec![Need::Target(0), any])));
}

#[test]
fn the_example_satisfies_the_live_programs() {
    assert!(read(SOUND, Strictness::Live).is_empty());
}

#[test]
fn what_is_left_out_has_its_default() {
    let catalogue = sound("");
    assert_eq!((catalogue.tenant, catalogue.calendar.zone_name()), (None, "Europe/Paris"));
    assert_eq!(catalogue.settle, Span::from_secs(3));
    assert_eq!(catalogue.claim_horizon, Span::from_secs(15 * 60));
    assert_eq!(catalogue.late_horizon, Span::from_secs(96 * 3600));

    let text = r#"
        indicator = [{ id = "i", objective = 97 }]
        target = [{ id = "t1", vantages = ["a"] }, { id = "t2", vantages = ["a", "b"] }, { id = "t3", vantages = ["a", "b", "c"] }]
        service = [{ id = "s", indicator = "i", needs = "t1" }]
    "#;
    let catalogue = sound(text);
    let quorums: Vec<_> = catalogue.targets.iter().map(|target| target.plan.at(Time::from_us(0)).down_quorum).collect();
    assert_eq!(quorums, [1, 2, 2], "more than half");
    assert!(catalogue.vantages.iter().all(|vantage| !vantage.declared));
    let service = &catalogue.services[0];
    assert_eq!((service.contractual, service.stable_up, service.group.as_str()), (true, Span::from_secs(30), "main"));
    assert_eq!((service.since, service.until), (None, None));
    assert!(catalogue.indicators[0].terms.at(Time::from_us(0)).exclusions.is_empty());
}

#[test]
fn a_service_without_stable_up_has_that_of_the_catalogue() {
    let catalogue =
        sound(&edited("stable_up = \"30s\"\nclaim", "stable_up = \"45s\"\nclaim").replace("stable_up = \"30s\"\ncontract", "contract"));
    assert_eq!(catalogue.services[0].stable_up, Span::from_secs(45));
}

#[test]
fn numbers_may_be_written_in_any_way_of_toml() {
    let settle = |number: &str| sound(&edited("settle = \"3s\"", &format!("settle = {number}"))).settle.us();
    assert_eq!(settle("3_000_000"), 3_000_000);
    assert_eq!(settle("0xff_ff"), 65_535);
    assert_eq!(settle("0o17"), 15);
    assert_eq!(settle("0b1_1"), 3);
    assert_eq!(settle("+7"), 7);
    assert_eq!(settle("0"), 0);
    let objective = |number: &str| sound(&edited("\"99.99\"", number)).indicators[0].terms.at(Time::from_us(0)).budget_ppm;
    assert_eq!(objective("99.99"), 100);
    assert_eq!(objective("9_9.9_9"), 100);
    assert_eq!(objective("100"), 0);
}

#[test]
fn versions_are_in_force_from_their_since() {
    let first = "\n[[target]]\nid = \"t\"\nvantages = [\"az05\"]\n";
    let second = format!("{first}since = 2026-03-01T00:00:00Z\ndown_quorum = 1\nlatency_objective = \"1s\"\n");
    let third = format!("{first}since = \"2026-02-01T00:00:00Z\"\nlatency_objective = \"2s\"\n");
    // The order of the text is no matter.
    let catalogue = sound(&format!("{second}{third}{first}"));
    let plan = &catalogue.targets[0].plan;
    let objective_at = |text: &str| {
        let sound_text = format!(
            "[[indicator]]\nid=\"i\"\nobjective=1\n[[target]]\nid=\"t\"\nvantages=[\"a\"]\n[[service]]\nid=\"s\"\nindicator=\"i\"\nneeds=\"t\"\nsince={text}"
        );
        let at = sound(&sound_text).services[0].since.unwrap();
        plan.at_with_since(at)
    };
    let (since, plan) = objective_at("2026-01-31T23:59:59.999999Z");
    assert_eq!((since, plan.latency_objective), (None, None));
    let (since, plan) = objective_at("2026-02-01T00:00:00Z");
    assert_eq!((since.unwrap().to_string().as_str(), plan.latency_objective), ("2026-02-01T00:00:00Z", Some(Span::from_secs(2))));
    let (since, plan) = objective_at("2026-03-01T01:00:00+01:00");
    assert_eq!((since.unwrap().to_string().as_str(), plan.latency_objective), ("2026-03-01T00:00:00Z", Some(Span::from_secs(1))));
}

#[test]
fn a_service_begins_with_its_first_version_and_ends_with_its_last() {
    let next = "\n[[service]]\nid = \"s3/fr1\"\nneeds = \"s3-fr1\"\nsince = 2026-06-01T00:00:00Z\n";
    let service = &sound(&format!("{SOUND}{next}")).services[0];
    assert_eq!(service.since.unwrap().to_string(), "2025-12-31T23:00:00Z");
    assert_eq!(service.until, None, "every block is complete: the last names no end");
    assert_eq!(service.needs.boundaries().map(|at| at.to_string()).collect::<Vec<_>>(), ["2026-06-01T00:00:00Z"]);
    assert_eq!(service.needs.at(Time::LATEST), &Need::Target(0));

    let ended = &sound(&format!("{SOUND}{next}until = 2026-09-01T00:00:00Z")).services[0];
    assert_eq!(ended.until.unwrap().to_string(), "2026-09-01T00:00:00Z");

    for sentinel in ["9999-12-31T00:00:00Z", "9999-12-31T23:59:59.999999-23:59"] {
        let ended = &sound(&format!("{SOUND}{next}until = {sentinel}")).services[0];
        assert_eq!(ended.until, Some(Time::LATEST), "as good as never");
    }
}

#[test]
fn services_are_reached_each_after_those_it_needs() {
    let text = r#"
        indicator = [{ id = "i", objective = 97 }]
        target = [{ id = "t", vantages = ["a"] }]
        service = [
            { id = "top", indicator = "i", needs = { any = ["left", "right"] } },
            { id = "left", indicator = "i", needs = "base" },
            { id = "right", indicator = "i", needs = { at_least = 1, of = ["base", "t"] } },
            { id = "base", indicator = "i", needs = "t" },
        ]
    "#;
    let catalogue = sound(text);
    let order = catalogue.reach(0);
    let place = |service: usize| order.iter().position(|&at| at == service).unwrap();
    assert_eq!(order.len(), 4, "each once: {order:?}");
    assert!(place(3) < place(1) && place(3) < place(2) && place(1) < place(0) && place(2) < place(0), "{order:?}");
}
