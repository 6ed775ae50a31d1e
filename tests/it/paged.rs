//! From a dead server to whoever is told, through the real Prometheus and Alertmanager with the files of `deploy/`: the right page, once,
//! and no page for what is no outage. How long it takes is measured by `cargo bench -p vigie-tests --bench paging`.

use vigie_tests::cluster::Cluster;
use vigie_tests::paging::{Alert, Paging};
use vigie_tests::program::wait_for;
use vigie_tests::zones::{VANTAGES, Zones};

fn alert(name: &str, about: &str, priority: &str, is_over: bool) -> Alert {
    Alert { name: name.to_owned(), about: about.to_owned(), priority: priority.to_owned(), is_over }
}

/// Of the region's aggregator and its probes.
fn paging(zones: &Zones) -> Paging {
    let probes: Vec<_> = zones.probes.iter().flatten().zip(VANTAGES).map(|(probe, (vantage, _))| (vantage, probe.address)).collect();
    Paging::start(&[zones.aggregator.address], &probes)
}

/// Nobody was told of anything but this ticket, and that a region is young: most of its month is unknown.
fn only(paging: &Paging, ticket: &Alert) {
    assert_eq!(paging.alerts("soc"), [], "a page");
    let is_other = |told: &Alert| (&told.name, &told.about) != (&ticket.name, &ticket.about) && told.name != "UnknownTimeGrows";
    let others: Vec<Alert> = paging.alerts("tickets").into_iter().filter(is_other).collect();
    assert_eq!(others, [], "other tickets");
}

#[test]
fn a_service_that_dies_is_paged_once_with_its_words_and_so_is_its_end() {
    let zones = Zones::start(&["web/fr1", "shop/fr1", "mail/fr1"], "5s");
    let paging = paging(&zones);
    let [web, shop] = ["web/fr1", "shop/fr1"].map(|service| alert("OutageOpen", service, "P1", false));
    zones.webs[0].set_up(false);
    let first = paging.wait_for("soc", "the page", |told| *told == web);
    assert_eq!(first.alerts(), std::slice::from_ref(&web));
    let annotations = &first.body["alerts"][0]["annotations"];
    for (name, word) in [
        ("summary_en", "web/fr1 is down since"),
        ("summary_fr", "web/fr1 est indisponible depuis"),
        ("onset", "20"),
        ("budget_left", "m"),
        ("window", "-"),
        ("page_url", "#window-"),
        ("explanation_url", "/explanation"),
        ("runbook_url", "/OutageOpen.md"),
    ] {
        assert!(annotations[name].as_str().is_some_and(|text| text.contains(word)), "{name}: {annotations}");
    }
    let windows = zones.aggregator.json("/api/v1/windows?status=open");
    assert_eq!(annotations["window"], windows["windows"][0]["id"], "the page names the window");

    // Who joins an incident comes with it.
    zones.webs[1].set_up(false);
    let second = paging.wait_for("soc", "the other service's page", |told| *told == shop);
    assert_eq!(second.body["groupKey"], first.body["groupKey"]);
    assert_eq!(second.alerts().len(), 2, "{second:?}");

    for web in &zones.webs {
        web.set_up(true);
    }
    for service in [&web, &shop] {
        paging.wait_for("soc", "the end", |told| *told == Alert { is_over: true, ..service.clone() });
    }
    let firing = paging.alerts("soc").into_iter().filter(|alert| !alert.is_over);
    assert_eq!(firing.collect::<Vec<_>>(), [shop, web], "nothing else was paged");
    let first_pages = paging.told("soc").into_iter().filter(|told| told.body["status"] == "firing").count();
    assert!(first_pages <= 3, "the same page came {first_pages} times");
}

#[test]
fn a_probes_death_is_a_ticket_and_no_page() {
    let mut zones = Zones::start(&["web/fr1", "disk/az05"], "5s");
    let paging = paging(&zones);
    let probe = zones.probes[2].take().unwrap();
    let listen = probe.address.to_string();
    probe.kill();
    let silent = alert("VantageSilent", "az07", "P3", false);
    paging.wait_for("tickets", "the dead probe's ticket", |told| *told == silent);
    only(&paging, &silent);
    zones.probes[2] = Some(zones.start_probe(2, &listen));
    wait_for("the probe to be heard again", || (zones.aggregator.metric("vigie_vantage_silent") == 0.0).then_some(()));
    only(&paging, &silent);
}

#[test]
fn a_zones_cut_is_a_ticket_and_no_page() {
    let zones = Zones::start(&["web/fr1", "disk/az05"], "5s");
    let paging = paging(&zones);
    let gated = alert("VantageGated", "az06", "P3", false);
    zones.cut(1, true);
    paging.wait_for("tickets", "the cut zone's ticket", |told| *told == gated);
    only(&paging, &gated);
    zones.cut(1, false);
    wait_for("the gate to open", || (zones.aggregator.metric("vigie_gate_active") == 0.0).then_some(()));
    only(&paging, &gated);
}

#[test]
fn kafka_that_stops_is_one_page_of_blindness_and_no_outage() {
    let mut cluster = Cluster::start(1);
    let aggregators: Vec<_> = cluster.aggregators.iter().flatten().map(|aggregator| aggregator.address).collect();
    let paging = Paging::start(&aggregators, &[("v", cluster.probe.as_ref().unwrap().address)]);
    let blind = alert("SupervisionStale", "main", "P1", false);
    cluster.kafka.broker(0).freeze();
    paging.wait_for("soc", "the page of blindness", |told| *told == blind);
    cluster.kafka.broker(0).thaw();
    paging.wait_for("soc", "its end", |told| *told == Alert { is_over: true, ..blind.clone() });
    let firing = paging.alerts("soc").into_iter().filter(|alert| !alert.is_over);
    assert_eq!(firing.collect::<Vec<_>>(), [blind], "nothing else was paged");
    cluster.wait_until_all("up");
    cluster.prove();
}
