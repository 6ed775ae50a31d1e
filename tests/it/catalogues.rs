//! The catalogues that are shipped: sound by every rule, whole, and marked where something is to be filled in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use vigie_contract::catalogue::{Need, Strictness};
use vigie_contract::{Catalogue, ExclusionKind, Span, Time};
use vigie_tests::program::{Program, vigie};

/// The contract's lines that are measured: id, name, percentage, and what may be excluded beside what always may.
const LINES: [(&str, &str, &str, &[&str]); 9] = [
    ("IC-INFRA_SNC-01", "Disponibilité de la puissance de calcul (Compute)", "99.99", &[]),
    ("IC-INFRA_SNC-02", "Disponibilité du stockage", "99.99", &[]),
    ("IC-INFRA_SNC-03", "Fiabilité de la sauvegarde", "99.99", &["throttling"]),
    ("IC-INFRA_SNC-04", "Disponibilité de l'infrastructure réseau", "99.99", &[]),
    ("IC-INFRA_SNC-05", "Accès Internet", "99.99", &["ddos_blackhole"]),
    ("IC-INFRA_SNC-06", "Accès à la console d'administration du Service", "97", &["throttling"]),
    ("IC-INFRA_SNC-07", "Accès aux APIs de pilotage du Service", "99.9", &["throttling"]),
    ("IC-INFRA-SNC-10.2", "Disponibilité de l'API Stockage Objet S3", "99.99", &["throttling"]),
    // Its figure is a latency; the percentage is that of 10.2.
    ("IC-INFRA-SNC-10.3", "Latence maximale d'accès à un objet sur une région", "99.99", &["throttling"]),
];
/// The general terms take these out of any line.
const ALWAYS: [&str; 6] = ["maintenance", "customer", "third_party", "suspension", "force_majeure", "measurement_error"];
/// What stands where something is to be filled in: addresses for documents (RFC 5737, RFC 2606), an id that is none, files with secrets.
const PLACES: [&str; 6] = ["192.0.2.", "198.51.100.", "203.0.113.", ".example", "00000000-", "/etc/vigie/"];
const MARK: &str = "  # FILL IN";

fn shipped() -> Vec<(PathBuf, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/catalogues");
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let texts = paths.filter(|path| path.extension().is_some_and(|kind| kind == "toml"));
    texts.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// Each with its file's name. None may have even a warning.
fn each(test: impl Fn(&str, &str, &Catalogue)) {
    let shipped = shipped();
    assert!(!shipped.is_empty());
    for (path, text) in &shipped {
        let (catalogue, warnings) = Catalogue::read(text, Strictness::Live).unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert!(warnings.is_empty(), "{warnings:#?}");
        test(&path.file_name().unwrap().to_string_lossy(), text, &catalogue);
    }
}

/// The targets that contractual services need.
fn accounted(catalogue: &Catalogue) -> BTreeSet<usize> {
    let contractual = (0..catalogue.services.len()).filter(|at| catalogue.services[*at].contractual);
    let reached = contractual.flat_map(|at| catalogue.reach(at));
    let mut targets = BTreeSet::new();
    for need in reached.flat_map(|service| catalogue.services[service].needs.all()) {
        need.for_each_leaf(&mut |leaf| {
            if let Need::Target(target) = leaf {
                targets.insert(*target);
            }
        });
    }
    targets
}

#[test]
fn the_program_and_the_probe_take_each_without_a_warning() {
    for (path, _) in shipped() {
        let output = vigie(path.parent().unwrap(), &["check", path.to_str().unwrap()]);
        let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && errors.is_empty() && out.contains(": valid; "), "{out}{errors}");
    }
    each(|name, _, catalogue| {
        for target in &catalogue.targets {
            let check = target.plan.at(Time::BEGINNING).check.as_ref().unwrap();
            vigie_probe::validate(check).unwrap_or_else(|error| panic!("{name}, {}: {error}", target.id));
        }
        assert_eq!(vigie_probe::exceeded(catalogue, Time::BEGINNING), [], "{name}");
    });
}

#[test]
fn each_has_all_lines_as_the_contract_writes_them() {
    each(|name, _, catalogue| {
        assert_eq!(catalogue.indicators.len(), LINES.len(), "{name}");
        for (at, (id, title, objective, more)) in LINES.into_iter().enumerate() {
            let indicator = &catalogue.indicators[at];
            let terms = indicator.terms.at(Time::BEGINNING);
            assert_eq!((indicator.id.as_str(), indicator.name.as_deref()), (id, Some(title)), "{name}");
            let budget_ppm = ((100.0 - objective.parse::<f64>().unwrap()) * 10_000.0).round();
            assert_eq!(f64::from(terms.budget_ppm), budget_ppm, "{name}: {id}");
            let allowed: BTreeSet<&str> = terms.exclusions.iter().map(|kind| ExclusionKind::as_str(*kind)).collect();
            assert_eq!(allowed, ALWAYS.iter().chain(more).copied().collect(), "{name}: {id}");
            let contractual = catalogue.services.iter().filter(|service| service.indicator == at && service.contractual).count();
            assert_eq!(contractual, usize::from(id != "IC-INFRA-SNC-10.3"), "{name}: {id} has one figure");
        }
    });
}

#[test]
fn the_latency_line_is_one_of_vantages_inside() {
    each(|name, _, catalogue| {
        let timed: Vec<_> = catalogue.targets.iter().filter(|target| target.has_latency_objective()).collect();
        let [target] = timed[..] else { panic!("{name}: one target is timed, not {}", timed.len()) };
        let plan = target.plan.at(Time::BEGINNING);
        assert_eq!(plan.latency_objective, Some(Span::from_us(150_000)), "{name}");
        assert_eq!(plan.check.as_ref().unwrap()["operation"], "get", "{name}");
        let vantages: Vec<_> = plan.vantages.iter().map(|at| catalogue.vantages[*at].id.as_str()).collect();
        assert_eq!(vantages, ["az05", "az06", "az07"], "{name}");
    });
}

#[test]
fn what_gates_a_vantage_is_measured_by_it_and_accounted() {
    each(|name, _, catalogue| {
        let accounted = accounted(catalogue);
        for (at, vantage) in catalogue.vantages.iter().enumerate() {
            let anchors = vantage.anchors.at(Time::BEGINNING);
            assert!(anchors.len() >= 2, "{name}: {}", vantage.id);
            for anchor in anchors {
                let target = &catalogue.targets[*anchor];
                assert!(target.plan.at(Time::BEGINNING).vantages.contains(&at), "{name}: {} never sees {}", vantage.id, target.id);
                assert!(accounted.contains(anchor), "{name}: {}", target.id);
            }
            assert!(catalogue.targets.iter().any(|target| target.is_ever_assigned(at)), "{name}: {} measures nothing", vantage.id);
        }
    });
}

#[test]
fn what_is_to_be_filled_in_is_marked_and_nothing_else_is() {
    each(|name, text, catalogue| {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let is_place = PLACES.iter().any(|place| line.contains(place));
            assert_eq!(is_place, line.ends_with(MARK), "{name}: {line}");
        }
        // And no check asks anybody who is not such a place.
        for target in &catalogue.targets {
            let check = target.plan.at(Time::BEGINNING).check.as_ref().unwrap();
            let asked =
                ["address", "url", "server", "endpoint"].iter().filter_map(|key| check.get(key).or_else(|| check.get("api")?.get(key)));
            for asked in asked.map(|asked| asked.as_str().unwrap()) {
                assert!(PLACES[..4].iter().any(|place| asked.contains(place)), "{name}, {}: {asked}", target.id);
            }
        }
    });
}

/// Every check of every vantage can be made, once the secrets' files are there.
#[test]
fn a_probe_starts_at_each_vantage() {
    let dir = tempfile::tempdir().unwrap();
    for secret in ["openiaas-token-id", "openiaas-token-secret", "s3-access-key", "s3-secret-key"] {
        std::fs::write(dir.path().join(secret), "a-secret\n").unwrap();
    }
    each(|_, text, catalogue| {
        std::fs::write(dir.path().join("c.toml"), text.replace("/etc/vigie/", &format!("{}/", dir.path().display()))).unwrap();
        for vantage in &catalogue.vantages {
            let spool = format!("spool-{}", vantage.id);
            let nobody = ["--aggregator", "http://127.0.0.1:1", "--spool", &spool];
            Program::start(dir.path(), &[&["probe", "--catalogue", "c.toml", "--vantage", vantage.id.as_str()], &nobody[..]].concat());
        }
    });
}
