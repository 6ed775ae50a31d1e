//! The witness against the provider's API, with what befalls the canary machine of a zone and its two hosts.

use std::time::Duration;

use serde_json::{Value, json};
use vigie_counterparts::openiaas::{Fault, Route, Scope, World};

use super::*;
use crate::check::truth::{self, Truth, void};
use crate::check::{Check, Phase};
use crate::openiaas::tests::{Bench, all};

const OK: Finding = Finding::Ok;
const DOWN: Finding = Finding::Fail(Reason::Unhealthy);

const INAPPLICABLE: Finding = void(Reason::Inapplicable);

fn settings() -> Value {
    json!({"path": "witness", "zone": "az05", "virtual_machine": "canary-az05"})
}

fn machine(world: &mut World) -> &mut Value {
    world.one(Route::VirtualMachines, "canary-az05").unwrap()
}

/// The host that the machine runs on at first.
fn host(world: &mut World) -> &mut Value {
    world.one(Route::Hosts, "host1-az05").unwrap()
}

fn halt(world: &mut World) {
    machine(world)["powerState"] = "Halted".into();
    machine(world)["host"] = Value::Null;
}

fn move_to_the_other_host(world: &mut World) {
    machine(world)["powerState"] = "Running".into();
    machine(world)["host"] = json!({"id": "host2-az05", "name": "host2-az05"});
}

fn crash(world: &mut World) {
    host(world)["powerState"] = "Halted".into();
    halt(world);
}

fn restart(world: &mut World) {
    host(world)["powerState"] = "Running".into();
    host(world)["uptime"] = 5.into();
}

fn maintain(world: &mut World) {
    host(world)["updateData"]["maintenanceMode"] = true.into();
}

/// What befell the machine, and how a slot then ends: after slots that saw it run, and as the first one of all.
type Row = (&'static str, fn(&mut World), Finding, Finding);

const DEEDS_TABLE: [Row; 17] = [
    ("nothing", |_| {}, OK, OK),
    ("its owner stopped it", halt, INAPPLICABLE, INAPPLICABLE),
    ("its owner paused it", |world| machine(world)["powerState"] = "Paused".into(), INAPPLICABLE, INAPPLICABLE),
    ("a state that nobody knows", |world| machine(world)["powerState"] = "Migrating".into(), INAPPLICABLE, INAPPLICABLE),
    ("its owner deleted it", |world| world.list(Route::VirtualMachines).clear(), void(Reason::Request), void(Reason::Request)),
    ("it was moved", move_to_the_other_host, OK, OK),
    ("it runs on a host that is down", |world| host(world)["powerState"] = "Halted".into(), DOWN, DOWN),
    ("its host died", crash, DOWN, INAPPLICABLE),
    (
        "its host died and is up again, the machine not",
        |world| {
            crash(world);
            restart(world);
        },
        DOWN,
        INAPPLICABLE,
    ),
    (
        "its host died and high availability restarted it elsewhere",
        |world| {
            crash(world);
            move_to_the_other_host(world);
        },
        DOWN,
        OK,
    ),
    (
        "its host died, is up again, and high availability restarted it elsewhere",
        |world| {
            restart(world);
            move_to_the_other_host(world);
        },
        DOWN,
        OK,
    ),
    ("its host restarted with it", restart, DOWN, OK),
    ("its customer works at its host", maintain, INAPPLICABLE, INAPPLICABLE),
    (
        "its customer restarts its host",
        |world| {
            crash(world);
            maintain(world);
        },
        INAPPLICABLE,
        INAPPLICABLE,
    ),
    (
        "its customer moved it away and restarts its host",
        |world| {
            crash(world);
            maintain(world);
            move_to_the_other_host(world);
        },
        OK,
        OK,
    ),
    ("its host's state is none that is known", |world| host(world)["powerState"] = "Unknown".into(), INAPPLICABLE, INAPPLICABLE),
    ("its host was taken out of the pool", |world| world.list(Route::Hosts).clear(), INAPPLICABLE, INAPPLICABLE),
];

#[tokio::test]
async fn what_befalls_the_machine_ends_where_the_table_says() {
    for (what, change, known, unknown) in DEEDS_TABLE {
        for (sound, expected) in [(0, unknown), (1, known), (3, known)] {
            let bench = Bench::start().await;
            let check = bench.check("compute", &settings());
            for _ in 0..sound {
                assert_eq!(bench.slot(&*check).await.0, OK);
            }
            bench.api.change(change);
            assert_eq!(bench.slot(&*check).await.0, expected, "{what}, after {sound} slots");
        }
    }
}

/// A fault of the API, and how the slot that meets it ends, whichever request that is: it says nothing of the machine.
const FAULTS_TABLE: [(Fault, Finding, Phase); 10] = [
    (Fault::Status(500), INAPPLICABLE, Phase::Transfer),
    (Fault::Status(502), INAPPLICABLE, Phase::Transfer),
    (Fault::Hang, INAPPLICABLE, Phase::Processing),
    (Fault::Reset, INAPPLICABLE, Phase::Processing),
    (Fault::OtherJson, INAPPLICABLE, Phase::Transfer),
    (Fault::Throttled { retry_after_s: None }, void(Reason::Throttled), Phase::Transfer),
    (Fault::Unauthorized, void(Reason::Credential), Phase::Transfer),
    (Fault::Forbidden, void(Reason::Credential), Phase::Transfer),
    (Fault::NotListed, void(Reason::Address), Phase::Transfer),
    (Fault::Status(404), void(Reason::Request), Phase::Transfer),
];

#[tokio::test]
async fn faults_of_the_api_end_where_the_table_says() {
    let meet = async |scope: Scope, (fault, found, phase): (Fault, Finding, Phase)| {
        for sound in [0, 1] {
            let mut bench = Bench::start().await;
            let check = bench.check("compute", &settings());
            for _ in 0..sound {
                assert_eq!(bench.slot(&*check).await.0, OK);
            }
            // A session that stands logs in no more.
            let (found, phase) = if sound == 1 && scope == Scope::Only(Route::Login) { (OK, Phase::Transfer) } else { (found, phase) };
            bench.api.switch_on(scope, fault);
            if fault == Fault::Hang {
                bench.timeout = Duration::from_secs(2);
            }
            let (met, trace) = bench.slot(&*check).await;
            assert_eq!((met, trace.last), (found, Some(phase)), "{fault:?} met by {scope:?} after {sound} slots");
            bench.api.heal();
            bench.timeout = Duration::from_secs(30);
            bench.pass(Span::from_secs(60));
            assert_eq!(bench.slot(&*check).await.0, OK, "{fault:?} met by {scope:?} is over");
        }
    };
    let scopes = [Scope::Everything, Scope::Only(Route::VirtualMachines), Scope::Only(Route::Hosts), Scope::Only(Route::Login)];
    all(scopes.into_iter().flat_map(|scope| FAULTS_TABLE.map(|row| meet(scope, row))).collect::<Vec<_>>()).await;
    let mut bench = Bench::start().await;
    let check = bench.check("compute", &settings());
    assert_eq!(bench.slot(&*check).await.0, OK);
    bench.api.go_down().await;
    assert_eq!(bench.slot(&*check).await.0, INAPPLICABLE);
}

/// A check that has seen the machine run.
async fn watching() -> (Bench, Box<dyn Check>) {
    let bench = Bench::start().await;
    let check = bench.check("compute", &settings());
    assert_eq!(bench.slot(&*check).await.0, OK);
    (bench, check)
}

#[tokio::test]
async fn a_restart_by_high_availability_is_down_from_the_hosts_death_until_the_machine_runs_again() {
    let (bench, check) = watching().await;
    bench.api.change(|world| host(world)["powerState"] = "Halted".into());
    assert_eq!(bench.slot(&*check).await.0, DOWN, "the machine's state is an old one");
    bench.api.change(halt);
    // Longer than what was seen before would count.
    for _ in 0..40 {
        assert_eq!(bench.slot(&*check).await.0, DOWN);
    }
    bench.api.change(restart);
    assert_eq!(bench.slot(&*check).await.0, DOWN, "the host is back, the machine is not");
    bench.api.change(move_to_the_other_host);
    assert_eq!(bench.slot(&*check).await.0, OK);
    bench.api.change(halt);
    assert_eq!(bench.slot(&*check).await.0, INAPPLICABLE, "that was its owner");
}

#[tokio::test]
async fn a_restart_that_no_slot_met_fails_one() {
    let (bench, check) = watching().await;
    bench.api.change(|world| {
        restart(world);
        move_to_the_other_host(world);
    });
    assert_eq!(bench.first(&*check).await.0, DOWN, "no second attempt follows, and the sample is void");
    assert_eq!([bench.slot(&*check).await.0, bench.slot(&*check).await.0], [DOWN, OK]);
    let (bench, check) = watching().await;
    bench.api.change(restart);
    assert_eq!([bench.slot(&*check).await.0, bench.slot(&*check).await.0], [DOWN, OK], "on the same host");
}

#[tokio::test]
async fn what_becomes_of_the_host_of_a_machine_that_its_owner_stopped_does_not_matter() {
    let (bench, check) = watching().await;
    bench.api.change(halt);
    assert_eq!(bench.slot(&*check).await.0, INAPPLICABLE);
    bench.api.change(crash);
    assert_eq!(bench.slot(&*check).await.0, INAPPLICABLE);
}

#[tokio::test]
async fn what_was_seen_long_ago_proves_nothing() {
    for (later, found) in [(4, DOWN), (6, INAPPLICABLE)] {
        let (bench, check) = watching().await;
        bench.api.switch_on(Scope::Reads, Fault::Status(502));
        for _ in 0..later {
            bench.pass(Span::from_secs(45));
            assert_eq!(bench.slot(&*check).await.0, INAPPLICABLE);
        }
        bench.api.heal();
        bench.api.change(crash);
        assert_eq!(bench.slot(&*check).await.0, found, "after {later} minutes");
    }
}

#[tokio::test]
async fn half_of_the_hosts_say_enough_if_the_machines_host_is_among_them() {
    let (bench, check) = watching().await;
    bench.api.switch_on(Scope::Only(Route::Hosts), Fault::Partial);
    assert_eq!(bench.slot(&*check).await.0, OK);
    bench.api.change(move_to_the_other_host);
    assert_eq!(bench.slot(&*check).await.0, INAPPLICABLE);
}

#[tokio::test]
async fn it_reads_the_machine_and_the_hosts_of_its_zone_and_nothing_else() {
    let (bench, check) = watching().await;
    bench.lines();
    assert_eq!(bench.slot(&*check).await.0, OK);
    let expected =
        ["GET /api/compute/v1/open_iaas/virtual_machines/canary-az05", "GET /api/compute/v1/open_iaas/hosts?machineManagerId=manager-az05"];
    assert_eq!(bench.lines(), expected);
    let mut settings = settings();
    settings["zone"] = "az99".into();
    assert_eq!(bench.slot(&*bench.check("compute", &settings)).await.0, void(Reason::Request));
}

/// For `probe/README.md`.
pub(in crate::check) fn truth() -> Vec<Truth> {
    let deed = |(what, _, known, unknown): &Row| vec![(*what).to_owned(), truth::outcome(*known), truth::outcome(*unknown)];
    let fault = |(fault, finding, phase): &(Fault, Finding, Phase)| truth::row(truth::fault(fault), *finding, *phase);
    vec![
        Truth {
            title: "compute, a witness: what befell the machine",
            columns: &["what", "outcome", "outcome of the first slot of all"],
            rows: DEEDS_TABLE.iter().map(deed).collect(),
        },
        Truth {
            title: "compute, a witness: the API meets it",
            columns: &["fault", "outcome", "phase"],
            rows: FAULTS_TABLE.iter().map(fault).collect(),
        },
    ]
}
