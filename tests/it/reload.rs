//! A catalogue that changes while programs run (DESIGN §5): what does not change goes on, and a bad file changes nothing.

use nix::sys::signal::Signal;
use vigie_tests::program::{Program, vigie, wait_for};
use vigie_tests::region::{Region, Web, write_catalogue};

#[test]
fn a_new_target_is_measured_from_then_on_and_a_bad_catalogue_changes_nothing() {
    let region = Region::start();
    let path = region.dir.path().join("c.toml");
    let sound = std::fs::read_to_string(&path).unwrap();
    let reload = |text: &str| {
        std::fs::write(&path, text).unwrap();
        region.probe.signal(Signal::SIGHUP);
        region.aggregator.signal(Signal::SIGHUP);
    };
    let count = |target: &str| {
        let series = format!("vigie_probe_samples_total{{instance=\"{target}\",probe=\"v\",result=\"ok\"}}");
        region.probe.metric(&series)
    };
    reload(&sound.replace("timeout = \"400ms\"", "timeout = \"4s\""));
    wait_for("a refusal", || (region.probe.metric("vigie_probe_reloads_refused_total") >= 1.0).then_some(()));
    region.probe.wait_for_log(&["timeout"]);
    let before = count("a");
    wait_for("the old catalogue's samples", || (count("a") > before).then_some(()));

    let (webs, new) = (&region.webs, Web::start());
    let targets = [("a", webs[0].address), ("b", webs[1].address), ("web", webs[2].address), ("new", new.address)];
    let next = tempfile::NamedTempFile::new().unwrap();
    write_catalogue(next.path(), &["v"], &targets);
    let before = count("a");
    reload(&std::fs::read_to_string(next.path()).unwrap());
    wait_for("the new target", || (count("new") >= 1.0).then_some(()));
    assert!(count("a") >= before, "what does not change keeps its counts");
    wait_for("the new service", || {
        let services = region.aggregator.json("/api/v1/services");
        (services["services"].as_array().unwrap().len() == 4 && region.is_all("up")).then_some(())
    });
    assert_eq!(region.aggregator.json("/api/v1/status")["catalogue_rev"], 2);
    assert!(region.aggregator.json("/api/v1/windows")["windows"].as_array().unwrap().is_empty());
}

#[test]
fn a_catalogue_that_the_probe_cannot_measure_never_comes_into_the_log() {
    let (dir, web) = (tempfile::tempdir().unwrap(), Web::start());
    let path = dir.path().join("c.toml");
    write_catalogue(&path, &["v"], &[("a", web.address), ("b", web.address)]);
    let sound = std::fs::read_to_string(&path).unwrap();
    let secretive = sound.replace("body = \"alive\"", "body = \"alive\", bearer = { file = \"/nowhere/secret\" }");
    std::fs::write(&path, &secretive).unwrap();
    let refused = vigie(dir.path(), &["run", "--catalogue", "c.toml", "--listen", "127.0.0.1:0"]);
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{errors}");
    assert!(errors.contains("target `a`") && errors.contains("cannot read the secret in /nowhere/secret"), "{errors}");

    std::fs::write(&path, &sound).unwrap();
    let region = Program::start(dir.path(), &["run", "--catalogue", "c.toml"]);
    let rev = || region.json("/api/v1/status")["catalogue_rev"].as_u64();
    wait_for("samples", || (region.metric("vigie_probe_samples_delivered_total") >= 2.0).then_some(()));
    assert_eq!(rev(), Some(1), "the log has only the one that can be measured");
    std::fs::write(&path, &secretive).unwrap();
    wait_for("the probe's refusal", || (region.metric("vigie_probe_reloads_refused_total") >= 1.0).then_some(()));
    wait_for("the aggregator's refusal", || (region.metric("vigie_catalogue_refused_total") >= 1.0).then_some(()));
    let made = region.metric("vigie_probe_samples_made_total");
    wait_for("the old catalogue's samples", || (region.metric("vigie_probe_samples_made_total") > made).then_some(()));
    assert_eq!(rev(), Some(1));
}

#[test]
fn when_a_secret_expires_is_told_and_a_new_end_has_it_read_anew() {
    let region = Region::start();
    let (path, secret) = (region.dir.path().join("c.toml"), region.dir.path().join("secret"));
    let sound = std::fs::read_to_string(&path).unwrap();
    let reload = |secret_is: &str, expires: &str| {
        std::fs::write(&secret, secret_is).unwrap();
        let bearer = format!("body = \"alive\", bearer = {{ file = \"{}\"{expires} }}", secret.display());
        // What is asked with a credential is an API, and asked more rarely.
        let text = sound.replacen("period = \"2s\"", "period = \"4s\"", 1).replacen("body = \"alive\"", &bearer, 1);
        std::fs::write(&path, text).unwrap();
        region.probe.signal(Signal::SIGHUP);
    };
    let told = |value: &str| {
        let line = format!("vigie_probe_credential_expiry_timestamp_seconds{{instance=\"a\",probe=\"v\"}} {value}\n");
        wait_for(&line, || region.probe.get("/metrics").1.contains(&line).then_some(()));
    };
    assert!(!region.probe.get("/metrics").1.contains("credential_expiry"), "no check has a secret");
    // {"exp":1800000000}
    reload("e30.eyJleHAiOjE4MDAwMDAwMDB9.c2ln", "");
    told("1800000000");
    reload("a new one", ", expires = 2027-06-01T00:00:00Z");
    told("1811808000");
    assert_eq!(region.probe.get("/metrics").1.matches("credential_expiry_timestamp_seconds{").count(), 1);
}
