//! What there is: zones, hosts, machines, storage, backups, in the shapes that the API gives them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// `POST /api/iam/v2/auth/personal_access_token`.
    Login,
    /// `/api/compute/v1/open_iaas`: the availability zones.
    MachineManagers,
    /// `/api/compute/v1/open_iaas/hosts`.
    Hosts,
    /// `/api/compute/v1/open_iaas/virtual_machines`.
    VirtualMachines,
    /// `/api/compute/v1/open_iaas/storage_repositories`.
    StorageRepositories,
    /// `/api/backup/v1/open_iaas/policies`.
    Policies,
    /// `/api/backup/v1/open_iaas/backups`.
    Backups,
}

/// The lists behind the routes. Their elements are as the API gives them, so that a test can make of them what it likes.
pub struct World {
    lists: BTreeMap<Route, Vec<Value>>,
}

const LISTS: [(Route, &str); 6] = [
    (Route::MachineManagers, "/api/compute/v1/open_iaas"),
    (Route::Hosts, "/api/compute/v1/open_iaas/hosts"),
    (Route::VirtualMachines, "/api/compute/v1/open_iaas/virtual_machines"),
    (Route::StorageRepositories, "/api/compute/v1/open_iaas/storage_repositories"),
    (Route::Policies, "/api/backup/v1/open_iaas/policies"),
    (Route::Backups, "/api/backup/v1/open_iaas/backups"),
];
const LOGIN: &str = "/api/iam/v2/auth/personal_access_token";

impl Route {
    /// What the request asks for, and of which single thing.
    pub(super) fn of<'a>(method: &str, path: &'a str) -> Option<(Self, Option<&'a str>)> {
        match method {
            "POST" => (path == LOGIN).then_some((Self::Login, None)),
            "GET" => {
                let list = LISTS.iter().find(|(_, list)| path == *list).map(|(route, _)| (*route, None));
                list.or_else(|| {
                    let (list, id) = path.rsplit_once('/')?;
                    LISTS.iter().find(|(_, known)| list == *known).map(|(route, _)| (*route, Some(id)))
                })
            }
            _ => None,
        }
    }
}

impl World {
    /// A region of three zones, each with two hosts, the canary machine and another, storage, and a daily policy whose last backup is six
    /// hours old. The names of things end with their zone's: `canary-az05`; so do their ids.
    pub(super) fn of_region(now_us: i64) -> Self {
        let mut world = Self { lists: BTreeMap::new() };
        for zone in ["az05", "az06", "az07"] {
            world.add_zone(zone, now_us / 1_000_000);
        }
        world
    }

    fn add_zone(&mut self, zone: &str, now_s: i64) {
        let id = |what: &str| format!("{what}-{zone}");
        let reference = |what: &str| json!({"id": id(what), "name": id(what)});
        let manager = json!({"id": id("manager"), "name": zone});
        self.list(Route::MachineManagers).push(json!({
            "id": id("manager"), "name": zone, "osVersion": "6.0.1", "osName": "Xen Orchestra",
        }));
        for (host, guest) in [("host1", "canary"), ("host2", "neighbour")] {
            self.list(Route::Hosts).push(json!({
                "id": id(host), "name": id(host), "machineManager": manager, "pool": reference("pool"), "master": host == "host1",
                "powerState": "Running", "uptime": 8_640_000, "rebootRequired": false,
                "updateData": {"maintenanceMode": false, "status": "upToDate"}, "virtualMachines": [id(guest)],
            }));
            self.list(Route::VirtualMachines).push(json!({
                "id": id(guest), "name": id(guest), "machineManager": manager, "pool": reference("pool"), "host": reference(host),
                "powerState": "Running", "highAvailability": "restart", "autoPowerOn": true, "cpu": 2, "memory": 4_294_967_296_u64,
                "pvDrivers": {"detected": true, "version": "8.4.0", "areUpToDate": true}, "managementAgent": {"detected": true},
                "addresses": {"0/ipv4/0": "192.0.2.10"},
            }));
        }
        self.list(Route::StorageRepositories).push(json!({
            "id": id("sr"), "name": id("sr"), "machineManager": manager, "pool": reference("pool"), "accessible": 1,
            "maintenanceMode": false, "maxCapacity": 2_199_023_255_552_u64, "freeCapacity": 1_099_511_627_776_u64,
            "storageType": "lvmohba", "shared": true, "virtualDisks": [],
        }));
        self.list(Route::Policies).push(json!({
            "id": id("policy"), "name": id("policy"), "internalId": id("policy"), "machineManager": manager, "running": false,
            "mode": "delta", "virtualMachines": [reference("canary")],
            "schedulers": [{"temporarilyDisabled": false, "cron": "0 2 * * *", "timezone": "Europe/Paris", "retention": 7}],
        }));
        for age_hours in [30, 6] {
            self.list(Route::Backups).push(json!({
                "id": format!("backup{age_hours}-{zone}"), "machineManager": manager, "mode": "delta", "size": 1_073_741_824,
                "timestamp": now_s - age_hours * 3_600, "virtualMachine": reference("canary"), "policy": reference("policy"),
                "isVirtualMachineDeleted": false,
            }));
        }
    }

    /// All of one kind.
    pub fn list(&mut self, route: Route) -> &mut Vec<Value> {
        self.lists.entry(route).or_default()
    }

    /// The one of this id, if there is one.
    pub fn one(&mut self, route: Route, id: &str) -> Option<&mut Value> {
        self.list(route).iter_mut().find(|one| one["id"] == id)
    }

    /// Those that a query's filters leave; nothing where the filter is missing without which the real API fails.
    pub(super) fn filtered(&mut self, route: Route, query: &str) -> Option<Vec<Value>> {
        let filter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        if route == Route::MachineManagers {
            return Some(self.list(route).clone());
        }
        let (manager, machine) = (filter("machineManagerId")?, filter("virtualMachineId"));
        let is_asked_for = |one: &&Value| {
            let is_of_machine = |id: &str| match route {
                Route::Policies => one["virtualMachines"].as_array().is_some_and(|all| all.iter().any(|machine| machine["id"] == id)),
                _ => one["virtualMachine"]["id"] == id,
            };
            one["machineManager"]["id"] == manager && machine.is_none_or(is_of_machine)
        };
        Some(self.list(route).iter().filter(is_asked_for).cloned().collect())
    }
}
