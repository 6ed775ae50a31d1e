use std::time::Duration;

use serde_json::{Value, json};
use vigie_counterparts::openiaas::{Fault, Route, Scope, World};

use super::*;
use crate::check::Phase;
use crate::check::truth::{self, Truth, fail, void};
use crate::openiaas::tests::{Bench, all, farthest};

fn lists(list: &str) -> Value {
    json!({"operation": "lists", "zone": "az05", "list": list})
}

fn age() -> Value {
    json!({"operation": "age", "zone": "az05", "virtual_machine": "canary-az05", "interval": "24h", "grace": "24h"})
}

const POLICIES: Scope = Scope::Only(Route::Policies);
const BACKUPS: Scope = Scope::Only(Route::Backups);

/// A fault of the list that is looked at, and how the slot that meets it ends.
const LISTS_TABLE: [(Fault, Finding, Phase); 13] = [
    (Fault::Status(500), fail(Reason::Status), Phase::Transfer),
    (Fault::Status(502), fail(Reason::Status), Phase::Transfer),
    (Fault::Hang, fail(Reason::Timeout), Phase::Processing),
    (Fault::HangWithinBody, fail(Reason::Timeout), Phase::Transfer),
    (Fault::Reset, fail(Reason::Reset), Phase::Processing),
    (Fault::BrokenJson, fail(Reason::Content), Phase::Transfer),
    (Fault::OtherJson, fail(Reason::Content), Phase::Transfer),
    (Fault::Throttled { retry_after_s: None }, void(Reason::Throttled), Phase::Transfer),
    (Fault::Unauthorized, void(Reason::Credential), Phase::Transfer),
    (Fault::Forbidden, void(Reason::Credential), Phase::Transfer),
    (Fault::NotListed, void(Reason::Address), Phase::Transfer),
    (Fault::Status(404), void(Reason::Request), Phase::Transfer),
    (Fault::Partial, Finding::Ok, Phase::Transfer),
];

#[tokio::test]
async fn lists_end_where_the_table_says() {
    let meet = async |(list, scope), (fault, found, phase): (Fault, Finding, Phase)| {
        let mut bench = Bench::start().await;
        let check = bench.check("backup", &lists(list));
        assert_eq!(bench.slot(&*check).await.0, Finding::Ok);
        bench.api.switch_on(scope, fault);
        if matches!(fault, Fault::Hang | Fault::HangWithinBody) {
            bench.timeout = Duration::from_secs(2);
        }
        let (met, trace) = bench.slot(&*check).await;
        assert_eq!((met, farthest(&trace)), (found, Some(phase)), "{list}: {fault:?}");
    };
    all(LISTS_TABLE.into_iter().flat_map(|row| [("policies", POLICIES), ("backups", BACKUPS)].map(|of| meet(of, row)))).await;
}

/// While the API gives nothing at all, nothing is said of backups: neither after a slot that was well, nor from the start.
#[tokio::test]
async fn an_api_that_is_out_of_order_is_not_the_backups_fault() {
    let faults = [
        (Scope::Everything, Fault::Status(502)),
        (Scope::Everything, Fault::Hang),
        (Scope::Everything, Fault::Reset),
        (Scope::Reads, Fault::BrokenJson),
        (Scope::Only(Route::Login), Fault::Status(500)),
    ];
    for (scope, fault) in faults {
        for settings in [lists("policies"), age()] {
            let mut bench = Bench::start().await;
            let check = bench.check("backup", &settings);
            if scope != Scope::Only(Route::Login) {
                assert_eq!(bench.slot(&*check).await.0, Finding::Ok);
            }
            bench.api.switch_on(scope, fault);
            if fault == Fault::Hang {
                bench.timeout = Duration::from_millis(300);
            }
            assert!(matches!(bench.first(&*check).await.0, Finding::Fail(_)), "{fault:?}");
            assert_eq!(bench.second(&*check).await.0, void(Reason::Inapplicable), "{fault:?}");
        }
    }
    let mut bench = Bench::start().await;
    let check = bench.check("backup", &lists("backups"));
    bench.api.go_down().await;
    assert_eq!(bench.slot(&*check).await.0, void(Reason::Inapplicable));
}

#[tokio::test]
async fn the_list_that_hangs_holds_up_no_other() {
    let mut bench = Bench::start().await;
    let (policies, backups, age) =
        (bench.check("backup", &lists("policies")), bench.check("backup", &lists("backups")), bench.check("backup", &age()));
    bench.api.switch_on(POLICIES, Fault::Hang);
    bench.timeout = Duration::from_millis(300);
    assert_eq!(bench.first(&*policies).await.0, fail(Reason::Timeout));
    bench.timeout = Duration::from_secs(30);
    assert_eq!(bench.first(&*backups).await.0, Finding::Ok);
    assert_eq!(bench.first(&*age).await.0, Finding::Ok);
    bench.pass(Span::from_secs(3_600 * 42));
    bench.timeout = Duration::from_millis(300);
    assert_eq!(bench.first(&*age).await.0, fail(Reason::Timeout), "nobody knows whether the old backup is excused");
}

/// What the machine's backups and policies are, and how old backups then end.
type Change = fn(&mut World);

fn policy(world: &mut World) -> &mut Value {
    world.one(Route::Policies, "policy-az05").unwrap()
}

fn unchanged(_: &mut World) {}

const AGE_TABLE: [(&str, Change, Finding); 7] = [
    ("a scheduler that is on", unchanged, fail(Reason::Stale)),
    (
        "one of two schedulers is on",
        |world| policy(world)["schedulers"].as_array_mut().unwrap().push(json!({"temporarilyDisabled": true, "cron": "0 * * * *"})),
        fail(Reason::Stale),
    ),
    (
        "the scheduler is switched off",
        |world| policy(world)["schedulers"][0]["temporarilyDisabled"] = true.into(),
        void(Reason::Inapplicable),
    ),
    ("a policy without a scheduler", |world| policy(world)["schedulers"] = json!([]), void(Reason::Inapplicable)),
    ("no policy", |world| policy(world)["virtualMachines"] = json!([]), void(Reason::Inapplicable)),
    ("no backup at all", |world| world.list(Route::Backups).clear(), void(Reason::Inapplicable)),
    (
        "the machine was deleted",
        |world| world.list(Route::Backups).iter_mut().for_each(|copy| copy["isVirtualMachineDeleted"] = true.into()),
        void(Reason::Inapplicable),
    ),
];

#[tokio::test]
async fn old_backups_end_where_the_table_says() {
    for (what, change, found) in AGE_TABLE {
        let bench = Bench::start().await;
        let check = bench.check("backup", &age());
        bench.api.change(change);
        bench.pass(Span::from_secs(3_600 * 43));
        assert_eq!(bench.slot(&*check).await.0, found, "{what}");
    }
}

#[tokio::test]
async fn the_newest_backup_counts_up_to_the_interval_and_the_grace() {
    let bench = Bench::start().await;
    let check = bench.check("backup", &age());
    let (found, trace) = bench.first(&*check).await;
    assert_eq!((found, trace.facts.backup_age), (Finding::Ok, Some(Span::from_secs(6 * 3_600 + 15))));
    assert!(!bench.lines().iter().any(|line| line.contains("policies")), "asked for without need");
    bench.pass(Span::from_secs(42 * 3_600 - 15));
    assert_eq!(bench.attempt(&*check, false).await.0, Finding::Ok, "48 h old");
    bench.pass(Span::from_secs(60));
    let (found, trace) = bench.attempt(&*check, false).await;
    assert_eq!((found, trace.facts.backup_age), (fail(Reason::Stale), Some(Span::from_secs(48 * 3_600 + 60))));
    let asked = bench.lines().pop().unwrap();
    assert_eq!(asked, "GET /api/backup/v1/open_iaas/policies?machineManagerId=manager-az05&virtualMachineId=canary-az05");
}

#[tokio::test]
async fn timestamps_count_seconds_or_milliseconds_and_none_is_from_the_future() {
    let bench = Bench::start().await;
    let check = bench.check("backup", &age());
    bench.api.change(|world| {
        for copy in world.list(Route::Backups) {
            copy["timestamp"] = (copy["timestamp"].as_i64().unwrap() * 1_000).into();
        }
    });
    let (found, trace) = bench.first(&*check).await;
    assert_eq!((found, trace.facts.backup_age), (Finding::Ok, Some(Span::from_secs(6 * 3_600 + 15))));
    bench.api.change(|world| {
        world.one(Route::Backups, "backup6-az05").unwrap()["timestamp"] = 1_900_000_000.into();
    });
    let (found, trace) = bench.first(&*check).await;
    assert_eq!((found, trace.facts.backup_age), (Finding::Ok, Some(Span::from_secs(30 * 3_600 + 30))));
}

#[tokio::test]
async fn a_part_of_a_list_proves_no_absence() {
    let bench = Bench::start().await;
    let check = bench.check("backup", &age());
    // Half of the list is the backup that is 30 h old.
    bench.api.switch_on(BACKUPS, Fault::Partial);
    assert_eq!(bench.slot(&*check).await.0, Finding::Ok);
    bench.pass(Span::from_secs(3_600 * 24));
    assert_eq!(bench.slot(&*check).await.0, void(Reason::Request));
    bench.api.heal();
    bench.api.switch_on(POLICIES, Fault::Partial);
    bench.pass(Span::from_secs(3_600 * 24));
    assert_eq!(bench.slot(&*check).await.0, void(Reason::Request), "half of one policy is none");
}

#[tokio::test]
async fn a_zone_that_is_not_there_is_our_mistake() {
    let bench = Bench::start().await;
    let mut settings = lists("backups");
    settings["zone"] = "az99".into();
    assert_eq!(bench.slot(&*bench.check("backup", &settings)).await.0, void(Reason::Request));
}

#[test]
fn a_block_that_cannot_be_used_says_why() {
    let access = json!({"endpoint": "https://api.test", "token_id": {"env": "NO_SUCH_ID"}, "token_secret": {"env": "NO_SUCH_SECRET"}});
    let error = |settings: Value, key: &str, value: Value| {
        let mut block = json!({"kind": "backup", "api": access});
        block.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        block[key] = value;
        crate::check::validate(&block).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(error(lists("policies"), "list", json!("backups")), "");
    assert_eq!(error(age(), "grace", json!("30h")), "");
    assert!(error(lists("policies"), "list", json!("restores")).contains("restores"));
    assert!(error(lists("policies"), "grace", json!("1h")).contains("nothing else"));
    assert!(error(age(), "list", json!("policies")).contains("no `list`"));
    assert!(error(age(), "grace", json!("23h")).contains("skipped"));
    assert!(error(age(), "grace", json!("23")).contains("unit"));
    assert!(error(age(), "operation", json!("restore")).contains("restore"));
}

/// For `probe/README.md`.
pub(in crate::check) fn truth() -> Vec<Truth> {
    let list =
        |(fault, finding, phase): &(Fault, Finding, Phase)| vec![truth::fault(fault), truth::outcome(*finding), truth::phase(*phase)];
    let age = |(policy, _, finding): &(&str, Change, Finding)| vec![(*policy).to_owned(), truth::outcome(*finding)];
    vec![
        Truth { title: "backup: the list meets it", columns: &["fault", "outcome", "phase"], rows: LISTS_TABLE.iter().map(list).collect() },
        Truth {
            title: "backup: the newest is too old, and",
            columns: &["the policy", "outcome"],
            rows: AGE_TABLE.iter().map(age).collect(),
        },
    ]
}
