//! What is blamed for what, with the catalogue of region fr1 as it is shipped: for each trouble, which services have a window, live and
//! once all evidence has arrived, which are unknown, and no others. Samples are made by a model of probes (`scene`), in their real phases;
//! windows by the engine. What is expected is argued from the domain's order of attribution and the SPEC, a line each:
//!
//! > power/room (all of a zone silent, other zones and outside see nothing of it) → 01, 02, 04, 05 of that zone; mesh cut with agents still
//! > beating after reconnect → 04 only; API dead with agents alive → 07 (06 if the page fails too); S3 dead from inside and outside → 10.2;
//! > dead from one vantage only → that vantage is unknown.

use std::collections::BTreeSet;
use std::path::Path;

use toml::{Table, Value};
use vigie_aggregator::core::engine::Engine;
use vigie_aggregator::core::window::Status;
use vigie_contract::{Catalogue, Span, Time};
use vigie_tests::fold::{batch, catalogue};
use vigie_tests::scene::Answer::{self, Fail, Ok, OkByAWrongClock, Silence, Void};
use vigie_tests::scene::{AROUND, Scene};

/// A row of the table.
#[derive(Clone, Copy)]
struct Trouble {
    name: &'static str,
    happens: fn(&str, &str, &str) -> Answer,
    unheard: &'static [&'static str],
    live: Shown,
    delivered: Shown,
}

/// What is shown: services by their names, apart by spaces; `X/zones` are `X/az05`, `X/az06` and `X/az07`.
#[derive(Clone, Copy)]
struct Shown {
    /// Those that have a window.
    down: &'static str,
    /// Those that have unknown time.
    unknown: &'static str,
}

const DARK: &str = "all of zone az05 is dark";
const TWO_DARK: &str = "zones az05 and az06 are dark";
const MESH: &str = "the mesh is cut between all zones";
const NO_INTERNET: &str = "zone az05 has no Internet";
const NO_INTERNET_NO_MESH: &str = "the region has no Internet, and az06 no mesh";
const ALL_DARK: &str = "all zones are dark, and the console with them";
const S3_INSIDE: &str = "S3 is dead from inside only";
const TWO_OUTSIDE: &str = "two of the machines outside are cut off";
const EVERYTHING: &str = "everything is down from everywhere";
const BLADE: &str = "a blade of az05 dies, and high availability restarts its VMs";
const BLACK_HOLED: &str = "the Internet does not get into az05, which gets out: its addresses are black-holed";
const MESH_OF_AZ05: &str = "the mesh of az05 is cut, and its agents' way to the log with it";
const CUT_OFF: &str = "az05 lives, and is cut off on all sides";
const GUEST: &str = "the guest of the agent of az05 crashes";
const AGENT: &str = "the agent of az05 alone is cut off";
const CLOCK: &str = "the clock of az05 is off";
const OVERLOADED: &str = "the probe of az05 is overloaded";
const OF_AZ05: &[&str] = &["az05", "az05-b"];

const TROUBLES: &[Trouble] = &[
    Trouble {
        name: DARK,
        happens: |what, at, from| match (what, at) {
            _ if from.starts_with("az05") => Silence,
            ("vm" | "neighbour" | "mesh" | "mesh2" | "in", "az05") => Fail,
            _ => Ok,
        },
        unheard: &[],
        // "All of a zone silent → 01, 02, 04, 05 of that zone." The region's have two zones left. Silence is neither life nor death (§3.1),
        // so what the agents say of themselves is unknown; so is nothing else, as all else has vantages enough (§3.3: two of three, three
        // of six are UP).
        live: Shown { down: "compute/az05 storage/az05 network/az05 internet/az05", unknown: "beats/az05" },
        // There is nothing to deliver. From when the other zones hear it again it is no longer dark, and until its agent has looked at its
        // disk, and somebody outside has got in, these are unknown: "time that was never DOWN is at most unknown" (§4).
        delivered: Shown { down: "compute/az05 storage/az05 network/az05 internet/az05", unknown: "beats/az05 storage/az05 internet/az05" },
    },
    Trouble {
        name: TWO_DARK,
        happens: |what, at, from| match (what, at) {
            _ if from.starts_with("az05") || from.starts_with("az06") => Silence,
            ("vm" | "neighbour" | "mesh" | "mesh2" | "in", "az05" | "az06") => Fail,
            _ => Ok,
        },
        unheard: &[],
        // The same of both zones: the third one and those outside see nothing of them. Whether the third one's mesh works, nobody is left to
        // say. One of three vantages is no quorum of what is measured inside only (§3.3): dns, latency.
        live: Shown {
            down: "compute/az05 storage/az05 network/az05 internet/az05 compute/az06 storage/az06 network/az06 internet/az06",
            unknown: "beats/az05 beats/az06 network/az07 network/fr1 dns/fr1 latency/fr1",
        },
        // As after one dark zone: each service of which not all is seen again at once is unknown until it is.
        delivered: Shown {
            down: "compute/az05 storage/az05 network/az05 internet/az05 compute/az06 storage/az06 network/az06 internet/az06",
            unknown: "beats/az05 beats/az06 network/az07 network/fr1 dns/fr1 latency/fr1 storage/az05 internet/az05 compute/az06 \
                      storage/az06 network/az06 internet/az06",
        },
    },
    Trouble {
        name: MESH_OF_AZ05,
        happens: |what, at, from| match what {
            "vm" | "mesh" | "mesh2" if at == "az05" || from.starts_with("az05") => Fail,
            _ => Ok,
        },
        unheard: OF_AZ05,
        // "→ 04 only": the neighbour answers outside, so that compute is UP; but how the disk is, only the agent could say.
        live: Shown { down: "network/az05", unknown: "storage/az05 beats/az05" },
        // "With agents still beating after reconnect": what they say stands for when they measured it (§3.1), so nothing is unknown.
        delivered: Shown { down: "network/az05", unknown: "" },
    },
    Trouble {
        name: MESH,
        happens: |what, _, _| if matches!(what, "vm" | "mesh" | "mesh2") { Fail } else { Ok },
        unheard: &[],
        // No zone reaches another: 04 in all of them, and so in the region. Nothing else needs the mesh alone.
        live: Shown { down: "network/zones network/fr1", unknown: "" },
        delivered: Shown { down: "network/zones network/fr1", unknown: "" },
    },
    Trouble {
        name: NO_INTERNET,
        happens: |what, at, from| match what {
            "in" | "neighbour" if at == "az05" => Fail,
            "out" | "api" | "s3" | "latency" if from.starts_with("az05") => Fail,
            _ => Ok,
        },
        unheard: &[],
        // Nobody gets in, nothing gets out: 05 of that zone. S3 and API are "dead from one vantage only".
        live: Shown { down: "internet/az05", unknown: "" },
        delivered: Shown { down: "internet/az05", unknown: "" },
    },
    Trouble {
        name: BLACK_HOLED,
        happens: |what, at, _| if matches!(what, "in" | "neighbour") && at == "az05" { Fail } else { Ok },
        unheard: &[],
        // "≥ 2 anchors reached, or ≥ 2 external vantages get in": one direction is enough.
        live: Shown { down: "", unknown: "" },
        delivered: Shown { down: "", unknown: "" },
    },
    Trouble {
        name: CUT_OFF,
        happens: |what, at, from| match what {
            "vm" | "mesh" | "mesh2" | "neighbour" | "in" if at == "az05" => Fail,
            "vm" | "mesh" | "mesh2" | "out" | "api" | "s3" | "latency" | "dns" if from.starts_with("az05") => Fail,
            _ => Ok,
        },
        unheard: OF_AZ05,
        // From elsewhere it is what a dark zone is: "other zones and outside see nothing of it".
        live: Shown { down: "compute/az05 storage/az05 network/az05 internet/az05", unknown: "beats/az05" },
        // That the agents lived is delivered, and shown beside (beats/az05 is UP). It takes nothing back: by §3.6 an expression in which an
        // UP excuses would be UNKNOWN for a zone that is dark. A person excludes it (probe/src/check/compute.rs).
        delivered: Shown { down: "compute/az05 storage/az05 network/az05 internet/az05", unknown: "" },
    },
    Trouble {
        name: "the region has no Internet",
        happens: |what, _, from| match what {
            "in" | "neighbour" => Fail,
            "out" | "api" | "s3" | "latency" if from.starts_with("az") => Fail,
            _ => Ok,
        },
        unheard: &[],
        // 05 everywhere, and only that: the zones hear each other. (API and S3 answer outside; inside, whose anchors all fail, a latency that
        // cannot be taken is no evidence, §3.2.)
        live: Shown { down: "internet/zones internet/fr1", unknown: "latency/fr1" },
        delivered: Shown { down: "internet/zones internet/fr1", unknown: "latency/fr1" },
    },
    Trouble {
        name: NO_INTERNET_NO_MESH,
        happens: |what, at, from| match what {
            "in" | "neighbour" => Fail,
            "out" | "api" | "s3" | "latency" if from.starts_with("az") => Fail,
            "vm" | "mesh" | "mesh2" if at == "az06" || from.starts_with("az06") => Fail,
            _ => Ok,
        },
        unheard: &["az06", "az06-b"],
        // az06 may be dark or cut off, and only those could tell who do not see the Internet either, so that their failures count for nothing
        // (§3.2). Nor does it give evidence against the zones that hear each other: what needs its word is unknown, and nothing but 05 DOWN.
        live: Shown {
            down: "internet/az05 internet/az07 internet/fr1",
            unknown: "compute/zones compute/fr1 storage/zones storage/fr1 network/zones network/fr1 beats/az06 internet/az06 latency/fr1",
        },
        // Delivered, az06 says that it does not get out. (internet/az07 is unknown for a moment: nobody gets in any more, its own ways out
        // have not yet failed, and whether the others hear it is not known.)
        delivered: Shown {
            down: "internet/zones internet/fr1",
            unknown: "compute/zones compute/fr1 storage/zones storage/fr1 network/zones network/fr1 internet/az07 latency/fr1",
        },
    },
    Trouble {
        name: ALL_DARK,
        happens: |what, _, from| match what {
            _ if from.starts_with("az") => Silence,
            "policies" | "backups" | "age" => Void,
            "neighbour" | "in" | "api" | "s3" | "console" => Fail,
            _ => Ok,
        },
        unheard: &[],
        // Those outside, who see the Internet, get in nowhere: 05 of the region; and the page fails: 06. Of all that only those inside
        // could tell apart there is no evidence, and silence is unknown (§3.1, §3.3: three of six are neither quorum).
        live: Shown {
            down: "internet/fr1 console/fr1",
            unknown: "compute/zones compute/fr1 beats/zones storage/zones storage/fr1 backup/zones backup/fr1 network/zones network/fr1 \
                      internet/zones dns/fr1 api/fr1 s3/fr1 latency/fr1",
        },
        delivered: Shown {
            down: "internet/fr1 console/fr1",
            unknown: "compute/zones compute/fr1 beats/zones storage/zones storage/fr1 backup/zones backup/fr1 network/zones network/fr1 \
                      internet/zones dns/fr1 api/fr1 s3/fr1 latency/fr1",
        },
    },
    Trouble {
        name: BLADE,
        happens: |what, at, from| match (what, at) {
            _ if from.starts_with("az05") => Silence,
            ("vm" | "neighbour" | "mesh", "az05") => Fail,
            _ => Ok,
        },
        unheard: &[],
        // "Time of an HA restart after a blade failure does count" (01), and nothing else does: the responder on the other host is reached
        // over VLAN (mesh2) and Internet (in).
        live: Shown { down: "compute/az05", unknown: "storage/az05 beats/az05" },
        delivered: Shown { down: "compute/az05", unknown: "storage/az05 beats/az05" },
    },
    Trouble {
        name: GUEST,
        happens: |what, at, from| match (what, at) {
            _ if from == "az05" => Silence,
            ("vm" | "mesh", "az05") => Fail,
            _ => Ok,
        },
        unheard: &[],
        // "Guest crash (VM Running, neighbours alive)" is no failure of 01. How the disk is, nobody says.
        live: Shown { down: "", unknown: "storage/az05" },
        delivered: Shown { down: "", unknown: "storage/az05" },
    },
    Trouble {
        name: AGENT,
        happens: |what, at, from| match what {
            "disk" | "beat" => Ok,
            _ if from == "az05" => Fail,
            "vm" | "mesh" if at == "az05" => Fail,
            _ => Ok,
        },
        unheard: &["az05"],
        // Its neighbour and its zone's responder answer, so that nothing is blamed; how the disk is, only the agent could say.
        live: Shown { down: "", unknown: "storage/az05" },
        // It was well. What else the agent says is that everything failed, its anchors too: that counts for nothing (§3.2).
        delivered: Shown { down: "", unknown: "" },
    },
    Trouble {
        name: "the disk of az05 hangs",
        happens: |what, at, _| if (what, at) == ("disk", "az05") { Fail } else { Ok },
        unheard: &[],
        // 02 of that zone; "a verdict needs two vantages unless the check is local by nature".
        live: Shown { down: "storage/az05", unknown: "" },
        delivered: Shown { down: "storage/az05", unknown: "" },
    },
    Trouble {
        name: "the API is dead, agents are alive",
        happens: |what, _, _| match what {
            "api" => Fail,
            "policies" | "backups" | "age" => Void,
            _ => Ok,
        },
        unheard: &[],
        // "→ 07". Backups are asked for over the API: while it gives nothing, nothing can be said of them (void inapplicable, backup.rs).
        live: Shown { down: "api/fr1", unknown: "backup/zones backup/fr1" },
        delivered: Shown { down: "api/fr1", unknown: "backup/zones backup/fr1" },
    },
    Trouble {
        name: "API and console are dead, agents are alive",
        happens: |what, _, _| match what {
            "api" | "console" => Fail,
            "policies" | "backups" | "age" => Void,
            _ => Ok,
        },
        unheard: &[],
        // "06 if the page fails too".
        live: Shown { down: "api/fr1 console/fr1", unknown: "backup/zones backup/fr1" },
        delivered: Shown { down: "api/fr1 console/fr1", unknown: "backup/zones backup/fr1" },
    },
    Trouble {
        name: "the list of policies of az05 hangs",
        happens: |what, at, _| if (what, at) == ("policies", "az05") { Fail } else { Ok },
        unheard: &[],
        // "Lists answer": 03 of that zone, by the target that has this list alone; the API itself answers.
        live: Shown { down: "backup/az05", unknown: "" },
        delivered: Shown { down: "backup/az05", unknown: "" },
    },
    Trouble {
        name: "S3 is dead from az06 only",
        happens: |what, _, from| if matches!(what, "s3" | "latency") && from == "az06" { Fail } else { Ok },
        unheard: &[],
        // "Dead from one vantage only → that vantage is unknown", and the service is not.
        live: Shown { down: "", unknown: "" },
        delivered: Shown { down: "", unknown: "" },
    },
    Trouble {
        name: S3_INSIDE,
        happens: |what, _, from| if matches!(what, "s3" | "latency") && from.starts_with("az") { Fail } else { Ok },
        unheard: &[],
        // "Dead from inside and outside → 10.2": it is not. Inside there is nothing to time, in the service that no contract speaks of.
        live: Shown { down: "latency/fr1", unknown: "" },
        delivered: Shown { down: "latency/fr1", unknown: "" },
    },
    Trouble {
        name: "S3 is dead from everywhere",
        happens: |what, _, _| if matches!(what, "s3" | "latency") { Fail } else { Ok },
        unheard: &[],
        // "→ 10.2", and nothing to time inside.
        live: Shown { down: "s3/fr1 latency/fr1", unknown: "" },
        delivered: Shown { down: "s3/fr1 latency/fr1", unknown: "" },
    },
    Trouble {
        name: "the token has expired everywhere",
        happens: |what, _, _| if matches!(what, "api" | "policies" | "backups" | "age") { Void } else { Ok },
        unheard: &[],
        // 401 is no evidence (§1), and what has none is unknown: 07, and 03, which is asked for over the API.
        live: Shown { down: "", unknown: "api/fr1 backup/zones backup/fr1" },
        delivered: Shown { down: "", unknown: "api/fr1 backup/zones backup/fr1" },
    },
    Trouble {
        name: "the white list is lost",
        happens: |what, _, _| if matches!(what, "api" | "console" | "policies" | "backups" | "age") { Void } else { Ok },
        unheard: &[],
        // "Console and API accept only declared addresses": 403 is no evidence (§1). The bucket has a list of its own.
        live: Shown { down: "", unknown: "api/fr1 console/fr1 backup/zones backup/fr1" },
        delivered: Shown { down: "", unknown: "api/fr1 console/fr1 backup/zones backup/fr1" },
    },
    Trouble {
        name: "the region's resolver is dead",
        happens: |what, _, from| match what {
            "dns" => Fail,
            "api" | "s3" | "latency" if from.starts_with("az") => Void,
            _ => Ok,
        },
        unheard: &[],
        // "A broken resolver is not a broken Internet": its own series. Who asks by name is void by its own resolver (§1); the three outside
        // are enough for UP, but latency is measured inside only.
        live: Shown { down: "dns/fr1", unknown: "latency/fr1" },
        delivered: Shown { down: "dns/fr1", unknown: "latency/fr1" },
    },
    Trouble {
        name: CLOCK,
        happens: |_, _, from| if from == "az05" { OkByAWrongClock } else { Ok },
        unheard: &[],
        // "Treated as void when clock_error_us > 1 000 000" (§1): what that agent alone can say is unknown, all else has others.
        live: Shown { down: "", unknown: "storage/az05" },
        delivered: Shown { down: "", unknown: "storage/az05" },
    },
    Trouble {
        name: OVERLOADED,
        happens: |_, _, from| if from == "az05" { Void } else { Ok },
        unheard: &[],
        // "An overloaded probe must never report fail" (§1, DESIGN §5): its slots are void.
        live: Shown { down: "", unknown: "storage/az05" },
        delivered: Shown { down: "", unknown: "storage/az05" },
    },
    Trouble {
        name: TWO_OUTSIDE,
        happens: |_, _, from| if matches!(from, "isp-a" | "isp-b") { Fail } else { Ok },
        unheard: &["isp-a", "isp-b"],
        // Not heard, they are silent: unknown is what needs two of the three outside.
        live: Shown { down: "", unknown: "console/fr1 backup/zones backup/fr1 internet/fr1" },
        // Delivered, they say that everything failed, their anchors too: "the vantage is cut off, not the world" (§3.2).
        delivered: Shown { down: "", unknown: "console/fr1 backup/zones backup/fr1 internet/fr1" },
    },
    Trouble {
        name: EVERYTHING,
        happens: |what, _, _| if what == "beat" { Ok } else { Fail },
        unheard: &[],
        // "The anchors' own services carry that outage, the others are unknown" (§3.2): the region's 05 needs all anchors. What a VM says of
        // itself asks nobody.
        live: Shown {
            down: "internet/fr1",
            unknown: "compute/zones compute/fr1 storage/zones storage/fr1 backup/zones backup/fr1 network/zones network/fr1 internet/zones dns/fr1 console/fr1 \
                      api/fr1 s3/fr1 latency/fr1",
        },
        // A gate lasts, for each target, until it is measured again (§3.2, g₁): anchors are seen first, then who gets into the zones.
        delivered: Shown {
            down: "internet/fr1",
            unknown: "compute/zones compute/fr1 storage/zones storage/fr1 backup/zones backup/fr1 network/zones network/fr1 internet/zones internet/fr1 dns/fr1 \
                      console/fr1 api/fr1 s3/fr1 latency/fr1",
        },
    },
];

const AZ05_DOWN: &str = "compute/az05 storage/az05 network/az05 internet/az05";
const ALL_UNKNOWN: &str = "compute/zones compute/fr1 beats/zones storage/zones storage/fr1 network/zones network/fr1 internet/zones \
                           dns/fr1 latency/fr1";

/// What is shown otherwise for those who use two zones, az05 and az06. Nobody but the agent of az05 hears az06 over the VLAN then, so that
/// while it does not listen nobody knows of az06's network; and what happens to both has happened to the region.
const OF_TWO_ZONES: &[(&str, Shown, Shown)] = &[
    // Of two zones' network there is nothing to know while one is dark.
    (
        DARK,
        Shown { down: AZ05_DOWN, unknown: "beats/az05 network/az06 network/fr1" },
        Shown { down: AZ05_DOWN, unknown: "beats/az05 network/az06 network/fr1 storage/az05" },
    ),
    (
        CUT_OFF,
        Shown { down: AZ05_DOWN, unknown: "beats/az05 network/az06 network/fr1" },
        Shown { down: AZ05_DOWN, unknown: "network/az06 network/fr1" },
    ),
    // Those are all zones: as `ALL_DARK`, with API and S3 alive.
    (TWO_DARK, Shown { down: "internet/fr1", unknown: ALL_UNKNOWN }, Shown { down: "internet/fr1", unknown: ALL_UNKNOWN }),
    // A cut between the only two zones is one of the region's network, as soon as both have said that they do not hear each other.
    (
        MESH_OF_AZ05,
        Shown { down: "network/az05", unknown: "storage/az05 beats/az05 network/az06 network/fr1" },
        Shown { down: "network/zones network/fr1", unknown: "" },
    ),
    (
        NO_INTERNET_NO_MESH,
        Shown {
            down: "internet/az05 internet/fr1",
            unknown: "compute/zones compute/fr1 storage/zones storage/fr1 network/zones network/fr1 beats/az06 internet/az06 latency/fr1",
        },
        Shown {
            down: "internet/zones internet/fr1",
            unknown: "compute/zones compute/fr1 storage/zones storage/fr1 network/zones network/fr1 internet/az05 latency/fr1",
        },
    ),
    (
        BLADE,
        Shown { down: "compute/az05", unknown: "storage/az05 beats/az05 network/az06" },
        Shown { down: "compute/az05", unknown: "storage/az05 beats/az05 network/az06" },
    ),
    (GUEST, Shown { down: "", unknown: "storage/az05 network/az06" }, Shown { down: "", unknown: "storage/az05 network/az06" }),
    (AGENT, Shown { down: "", unknown: "storage/az05 network/az06" }, Shown { down: "", unknown: "network/az06" }),
    (CLOCK, Shown { down: "", unknown: "storage/az05 network/az06" }, Shown { down: "", unknown: "storage/az05 network/az06" }),
    (OVERLOADED, Shown { down: "", unknown: "storage/az05 network/az06" }, Shown { down: "", unknown: "storage/az05 network/az06" }),
];

/// How long a trouble lasts: so long that the longest hold, that of the backups, has ended before it is looked at live.
const LASTS: Span = Span::from_secs(360);
/// A live look is that long before its end.
const LOOK: Span = Span::from_secs(10);

fn shipped_text() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/catalogues/openiaas-fr1.toml");
    std::fs::read_to_string(path).unwrap()
}

/// The services that a list of the table names; without those of az07 where a catalogue has none of it.
fn named(list: &str, catalogue: &Catalogue) -> BTreeSet<String> {
    let each = |name: &str| match name.strip_suffix("/zones") {
        Some(line) => ["az05", "az06", "az07"].map(|zone| format!("{line}/{zone}")).to_vec(),
        None => vec![name.to_owned()],
    };
    let has_az07 = catalogue.vantages.iter().any(|vantage| vantage.id.as_str() == "az07");
    list.split_whitespace().flat_map(each).filter(|name| has_az07 || !name.ends_with("/az07")).collect()
}

/// What README.md beside the catalogue says of a zone that is not used, done to az07.
fn of_two_zones() -> Catalogue {
    let mut text: Table = shipped_text().parse().unwrap();
    let mut all = |kind: &str, change: &mut dyn FnMut(&mut Value) -> bool| {
        text.get_mut(kind).unwrap().as_array_mut().unwrap().retain_mut(|one| change(one));
    };
    all("vantage", &mut |vantage| !is_about_az07(&vantage["id"]));
    all("target", &mut |target| {
        let vantages = target["vantages"].as_array_mut().unwrap();
        vantages.retain(|vantage| !is_about_az07(vantage));
        !vantages.is_empty() && !is_about_az07(&target["id"])
    });
    all("service", &mut |service| {
        let asks_who_hears = ["compute/", "network/"].iter().any(|line| service["id"].as_str().unwrap().starts_with(line));
        let left = left_of(&service["needs"], asks_who_hears).filter(|_| !is_about_az07(&service["id"]));
        left.map(|needs| service.as_table_mut().unwrap().insert("needs".to_owned(), needs)).is_some()
    });
    catalogue(&toml::to_string(&text).unwrap())
}

fn is_about_az07(name: &Value) -> bool {
    name.as_str().unwrap().contains("az07")
}

/// What is left of a need; nothing if all of it was about az07. Of `{ all = [HEARD, ALIVE] }`, where the third zone would say whether who
/// should hear is alive, HEARD is.
fn left_of(need: &Value, asks_who_hears: bool) -> Option<Value> {
    let Value::Table(table) = need else { return (!is_about_az07(need)).then(|| need.clone()) };
    let (how, among) = table.iter().next().unwrap();
    let mut left: Vec<Value> = among.as_array().unwrap().iter().filter_map(|part| left_of(part, asks_who_hears)).collect();
    if how == "all" && asks_who_hears {
        return Some(among[0].clone()).filter(|heard| left.first() == Some(heard));
    }
    match left.as_slice() {
        [] => None,
        [_] => left.pop(),
        _ => Some(Value::Table(Table::from_iter([(how.clone(), left.into())]))),
    }
}

/// The greatest period of the targets that a service needs.
fn period(engine: &Engine, catalogue: &Catalogue, service: usize, at: Time) -> Span {
    let targets = engine.reach(service).targets.iter();
    targets.filter_map(|target| catalogue.targets[*target].plan.at(at).period).max().unwrap()
}

/// What differs from what should be shown of `scene`.
fn compare(engine: &Engine, catalogue: &Catalogue, scene: &Scene, expected: &Shown, is_over: bool) -> Vec<String> {
    let (mut down, mut unknown, mut wrong) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for (ix, service) in catalogue.services.iter().enumerate() {
        let has_unknown =
            |view: &vigie_aggregator::core::window::View<'_>| view.unknown(Time::BEGINNING, Time::FOREVER).length() > Span::ZERO;
        if engine.with_view(ix, has_unknown).unwrap() {
            unknown.insert(service.id.to_string());
        }
        // A failure is seen within a period, and so is a success; never before its time (§3.4).
        let soon = period(engine, catalogue, ix, scene.from) + Span::from_secs(1);
        let windows: Vec<_> = engine.published(ix).collect();
        for window in &windows {
            down.insert(service.id.to_string());
            let is_near = |at: Time, moment: Time| moment <= at && at <= moment + soon;
            let ends = if is_over { window.end.is_some_and(|end| is_near(end, scene.to)) } else { window.status == Status::Open };
            if windows.len() > 1 || !is_near(window.onset, scene.from) || !ends {
                wrong.push(format!("{}: {:?} to {:?}", service.id, window.onset, window.end));
            }
        }
    }
    for (what, found, expected) in [("down", down, expected.down), ("unknown", unknown, expected.unknown)] {
        let list = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let expected = named(expected, catalogue);
        let (more, less) = (list(found.difference(&expected).collect()), list(expected.difference(&found).collect()));
        if found != expected {
            wrong.push(format!("{what}, and should not be: [{more}]; should be, and is not: [{less}]"));
        }
    }
    wrong
}

/// What is wrong with a row under a catalogue.
fn judge(trouble: &Trouble, catalogue: &Catalogue) -> Vec<String> {
    // Evidence is there from before the measurement's start on. Not on any beat.
    let from = catalogue.services[0].since.unwrap() + AROUND - Span::from_secs(120) + Span::from_us(1_234_567);
    let scene = Scene { from, to: from + LASTS, happens: trouble.happens, unheard: trouble.unheard };
    let evidence = scene.evidence(catalogue);
    let lines = |until: Time| evidence.iter().filter(|(at, _)| *at <= until).map(|(_, line)| line.clone()).collect::<Vec<_>>();
    let shown = |until: Time, expected: &Shown, when: &str| {
        let engine = batch(Some(catalogue), &lines(until), None);
        let wrong = compare(&engine, catalogue, &scene, expected, until > scene.to);
        wrong.into_iter().map(|wrong| format!("{}, {when}: {wrong}", trouble.name)).collect::<Vec<_>>()
    };
    [shown(scene.to - LOOK, &trouble.live, "live"), shown(Time::FOREVER, &trouble.delivered, "delivered")].concat()
}

/// Something that is left out of the catalogue's text, or put into it, and the trouble that is then blamed wrongly.
struct Need {
    edits: &'static [(&'static str, &'static str)],
    trouble: &'static str,
}

const AZ06_LIVES: &str = r#", { any = ["in-az06", "neighbour-az06", "mesh-az06-az07", "mesh2-az06-az07"] }"#;
const AZ07_LIVES: &str = r#", { any = ["in-az07", "neighbour-az07", "mesh-az07-az06", "mesh2-az07-az06"] }"#;

const NEEDS: &[Need] = &[
    // Without the way past the mesh, a cut of it is blamed on compute; without the mesh, a cut of the Internet.
    Need { edits: &[("  \"neighbour-az05\",\n  { all = [\"vm-az05-az06\"", "  { all = [\"vm-az05-az06\"")], trouble: MESH },
    Need {
        edits: &[(r#"all = ["vm-az05-az06""#, r#"all = ["neighbour-az05""#), (r#"all = ["vm-az05-az07""#, r#"all = ["neighbour-az05""#)],
        trouble: NO_INTERNET,
    },
    // A zone that is dark does not say that it hears nobody.
    Need { edits: &[(AZ06_LIVES, ""), (AZ07_LIVES, "")], trouble: TWO_DARK },
    // The disk of a dark zone says nothing; and a zone that is not seen from outside is not dark.
    Need {
        edits: &[(r#"{ all = ["disk-az05", { any = ["network/az05", "in-az05", "neighbour-az05"] }] }"#, r#""disk-az05""#)],
        trouble: DARK,
    },
    Need { edits: &[(r#"["network/az05", "in-az05", "neighbour-az05"]"#, r#"["in-az05", "neighbour-az05"]"#)], trouble: NO_INTERNET },
    // One host is not the network.
    Need {
        edits: &[
            (r#"["mesh-az05-az06", "mesh2-az05-az06"]"#, r#"["mesh-az05-az06"]"#),
            (r#"["mesh-az05-az07", "mesh2-az05-az07"]"#, r#"["mesh-az05-az07"]"#),
        ],
        trouble: BLADE,
    },
    // One direction is enough, and a dark zone does not say whether it gets out.
    Need { edits: &[("  { all = [{ any = [\"out-az05-1\", \"out-az05-2\"] }, \"network/az05\"] },\n", "")], trouble: BLACK_HOLED },
    Need { edits: &[(r#", "network/az05"] },"#, "] },")], trouble: DARK },
    // Whether anybody gets into the region does not depend on what zones say that say nothing; and it carries the outage of the anchors.
    Need {
        edits: &[(
            r#"["in-az05", "in-az06", "in-az07", "neighbour-az05", "neighbour-az06", "neighbour-az07"]"#,
            r#"["internet/az05", "internet/az06", "internet/az07"]"#,
        )],
        trouble: ALL_DARK,
    },
    Need {
        edits: &[(
            "  { any = [\"anchor-1\", \"anchor-2\", \"out-az05-1\", \"out-az05-2\", \"out-az06-1\", \"out-az06-2\", \"out-az07-1\", \
             \"out-az07-2\"] },\n",
            "",
        )],
        trouble: EVERYTHING,
    },
    // Those inside are not enough.
    Need { edits: &[("down_quorum = 4", "down_quorum = 3")], trouble: S3_INSIDE },
    // A vantage that is cut off says so by its anchors, and has none that its gate would not excuse.
    Need { edits: &[(r#"anchors = ["anchor-1", "anchor-2"]"#, "anchors = []")], trouble: TWO_OUTSIDE },
    Need {
        edits: &[(
            r#"anchors = ["out-az06-1", "out-az06-2"]"#,
            r#"anchors = ["out-az06-1", "mesh-az05-az06", "mesh2-az05-az06", "mesh-az07-az06", "mesh2-az07-az06"]"#,
        )],
        trouble: NO_INTERNET_NO_MESH,
    },
];

#[test]
fn every_trouble_is_blamed_on_what_it_is_and_on_nothing_else() {
    let catalogue = catalogue(&shipped_text());
    let wrong: Vec<String> = TROUBLES.iter().flat_map(|trouble| judge(trouble, &catalogue)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn with_two_zones_it_is_the_same_but_for_what_the_third_would_have_said() {
    let catalogue = of_two_zones();
    let troubles = TROUBLES.iter().map(|trouble| match OF_TWO_ZONES.iter().find(|(name, ..)| *name == trouble.name) {
        Some((_, live, delivered)) => Trouble { live: *live, delivered: *delivered, ..*trouble },
        None => *trouble,
    });
    let wrong: Vec<String> = troubles.flat_map(|trouble| judge(&trouble, &catalogue)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_in_the_catalogue_is_there_for_nothing() {
    for need in NEEDS {
        let mut text = shipped_text();
        for (part, instead) in need.edits {
            assert!(text.contains(part), "{part}");
            text = text.replace(part, instead);
        }
        let trouble = TROUBLES.iter().find(|trouble| trouble.name == need.trouble).unwrap();
        assert_ne!(judge(trouble, &catalogue(&text)), [""; 0], "{:?} would not be missed", need.edits);
    }
}
