//! The archive in a bucket of an object store that is somebody else's.

use std::path::Path;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use vigie_aggregator::archive::{Archive, Shelf, segments};
use vigie_aggregator::port::Logged;
use vigie_contract::Time;
use vigie_counterparts::identity::Identity;
use vigie_counterparts::object_store::{ACCESS_KEY, ObjectStore, SECRET_KEY};
use vigie_tests::cluster::{Cluster, DEPLOYMENTS};
use vigie_tests::kafka::Kafka;
use vigie_tests::program::{vigie, wait_for};

/// Settings of a bucket for each deployment, `alpha.toml` and `beta.toml`.
pub(crate) fn describe(dir: &Path, store: &ObjectStore, identity: &Identity) {
    std::fs::write(dir.join("access"), format!("{ACCESS_KEY}\n")).unwrap();
    std::fs::write(dir.join("secret"), format!("{SECRET_KEY}\n")).unwrap();
    std::fs::write(dir.join("ca.pem"), &identity.pem).unwrap();
    for deployment in DEPLOYMENTS {
        let text = format!(
            "endpoint = \"https://{}\"\nbucket = \"archive\"\nprefix = \"{deployment}\"\nregion = \"fr1\"\naccess_key_file = \"access\"\n\
             secret_key_file = \"secret\"\nca = \"ca.pem\"\n",
            store.address
        );
        std::fs::write(dir.join(format!("{deployment}.toml")), text).unwrap();
    }
}

/// Retention deletes what lies before `next`.
fn delete_records(bootstrap: &str, next: u64) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let mut upto = TopicPartitionList::new();
    upto.add_partition_offset("vigie.evidence.v1", 0, Offset::Offset(next as i64)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    let deleted = runtime.block_on(admin.delete_records(&upto, &options)).unwrap();
    assert_eq!(deleted.elements()[0].offset(), Offset::Offset(next as i64));
}

#[test]
fn a_region_is_folded_again_from_a_bucket_and_what_is_left_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("archive")).unwrap();
    let identity = Identity::new().unwrap();
    let store = ObjectStore::start(root.path(), 0, Some(identity.clone())).unwrap();
    let port = store.address.port();
    describe(dir.path(), &store, &identity);
    let kafka = Kafka::start(&dir.path().join("kafka"), 1);
    let mut cluster = Cluster::start_with(dir, kafka);
    let archived = |cluster: &Cluster, at: usize| cluster.aggregator(at).metric("vigie_archive_next_offset{group=\"main\"");
    for at in 0..DEPLOYMENTS.len() {
        wait_for("the first segment", || (archived(&cluster, at) > 0.0).then_some(()));
    }
    cluster.webs[2].set_up(false);
    cluster.wait_for_open(1);
    cluster.webs[2].set_up(true);
    cluster.wait_for_open(0);

    // A bucket out of reach is told, keeps nobody from deriving, and takes what waited when it is back.
    drop(store);
    assert!(cluster.aggregators[0].take().unwrap().stop().success());
    cluster.start_aggregator(0);
    wait_for("a failure", || (cluster.aggregator(0).metric("vigie_archive_failures_total{group=\"main\"") > 0.0).then_some(()));
    cluster.wait_until_all("up");
    let store = ObjectStore::start(root.path(), port, Some(identity)).unwrap();
    wait_for("the bucket", || (archived(&cluster, 0) > archived(&cluster, 1)).then_some(()));

    // Everything that is archived is deleted from the log, and nobody has a snapshot.
    for aggregator in &mut cluster.aggregators {
        assert!(aggregator.take().unwrap().stop().success());
    }
    for place in ["archive", "alpha.toml", "beta.toml"] {
        cluster.vigie(&["archive", "--kafka", "kafka.toml", "--to", place]);
    }
    let end = segments(&Shelf::directory(&cluster.dir.path().join("archive/main/00000"))).unwrap().last().unwrap().next;
    let replay = |place: &str| cluster.vigie(&["replay", "--evidence", place, "--until", "9000000000000000"]);
    let from_directory = replay("archive/main/00000");
    assert!(from_directory.contains("\"window\""));
    assert_eq!(replay("alpha.toml/main/00000").lines().count(), from_directory.lines().count());
    delete_records(&cluster.kafka.bootstrap(), end);
    let path = cluster.dir.path().join("kafka.toml");
    let settings = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, settings + "[topics]\nsnapshots = \"vigie.snapshots.v2\"\n").unwrap();
    cluster.vigie(&["topics", "--kafka", "kafka.toml", "--create"]);
    (0..DEPLOYMENTS.len()).for_each(|at| cluster.start_aggregator(at));
    cluster.wait_until_all("up");
    cluster.webs[2].set_up(false);
    cluster.wait_for_open(1);
    cluster.webs[2].set_up(true);
    cluster.wait_for_open(0);
    cluster.wait_until_delivered();
    let (log, versions) = cluster.prove();
    assert!(log[0].offset == 0 && versions >= 4, "{versions} versions");

    // ClickHouse answers what the pruning asks; nothing is old.
    let pruned = cluster.vigie(&["archive", "prune", "--archive", "alpha.toml", "--clickhouse", "clickhouse.toml"]);
    assert_eq!(pruned, "group main: nothing to prune\n");

    // What somebody has changed in the bucket is found, and named.
    let first = std::fs::read_dir(root.path().join("archive/alpha/main/00000")).unwrap().next().unwrap().unwrap();
    let mut bytes = std::fs::read(first.path()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(first.path(), bytes).unwrap();
    let damaged = vigie(cluster.dir.path(), &["replay", "--evidence", "alpha.toml/main/00000"]);
    let said = String::from_utf8_lossy(&damaged.stderr).into_owned();
    assert_eq!(damaged.status.code(), Some(2));
    assert!(said.contains("s3://archive/alpha/main/00000/") && said.contains("damaged"), "{said}");
    drop(store);
}

#[test]
fn a_bucket_that_cannot_be_used_says_why_and_never_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("archive")).unwrap();
    let identity = Identity::new().unwrap();
    let store = ObjectStore::start(root.path(), 0, Some(identity.clone())).unwrap();
    describe(dir.path(), &store, &identity);
    let good = std::fs::read_to_string(dir.path().join("alpha.toml")).unwrap();
    let replay = |text: &str| {
        std::fs::write(dir.path().join("b.toml"), text).unwrap();
        let output = vigie(dir.path(), &["replay", "--evidence", "b.toml/main/00000"]);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains(SECRET_KEY) && !said.contains("not-the-secret"), "{said}");
        said
    };
    assert!(replay(&good).contains("no segment"));
    std::fs::write(dir.path().join("other"), "not-the-secret").unwrap();
    assert!(replay(&good.replace("= \"secret\"", "= \"other\"")).contains("403"));
    assert!(replay(&good.replace("\"archive\"", "\"absent\"")).contains("absent"));
    assert!(replay(&good.replace("ca = \"ca.pem\"\n", "")).contains("bucket archive"));
    let both = replay(&good.replace("https://", "ftp://").replace("= \"access\"", "= \"nowhere\""));
    assert!(both.contains("`endpoint`") && both.contains("`access_key_file`"), "all mistakes at once: {both}");
    assert!(replay(&format!("{good}colour = 1\n")).contains("line 8"));
    drop(store);
    assert!(replay(&good).contains("bucket archive"));
}

/// Two members of a deployment may both believe that they write, for a moment: what they leave behind reads as one log.
#[test]
fn segments_that_overlap_read_as_one_log() {
    let dir = tempfile::tempdir().unwrap();
    let records: Vec<Logged> =
        (0..9).map(|offset| Logged { offset, appended_at: Time::from_us(offset as i64), bytes: b"{}".to_vec() }).collect();
    let shelf = Shelf::directory(dir.path());
    let archive = Archive::new(&shelf, "main", 0);
    archive.writer().unwrap().append(&records[..5], 5).unwrap();
    let other = tempfile::tempdir().unwrap();
    let zombie = Archive::new(&Shelf::directory(other.path()), "main", 0);
    zombie.writer().unwrap().append(&records[..7], 7).unwrap();
    let left = std::fs::read_dir(other.path().join("main/00000")).unwrap().map(Result::unwrap);
    for file in left.filter(|file| file.file_name() != "lock") {
        std::fs::copy(file.path(), dir.path().join("main/00000").join(file.file_name())).unwrap();
    }
    let mut writer = archive.writer().unwrap();
    assert_eq!(writer.next(), 7);
    writer.append(&records[7..], 9).unwrap();
    let read: Vec<Logged> = [0, 7].iter().flat_map(|from| archive.read(*from).unwrap()).collect();
    assert_eq!(read, records);
}
