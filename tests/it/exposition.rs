//! `/metrics` of both halves as Prometheus reads it: promtool finds nothing to complain about, and no secret is in it.

use std::io::Write;
use std::process::{Command, Stdio};

use vigie_tests::program::TOKEN;
use vigie_tests::region::Region;

#[test]
fn both_halves_are_clean_under_promtool() {
    let region = Region::start();
    region.break_web();
    region.mend_web();
    for (half, program) in [("aggregator", &region.aggregator), ("probe", &region.probe)] {
        let (status, text) = program.get("/metrics");
        assert_eq!(status, 200);
        assert!(!text.contains(TOKEN));
        let months: std::collections::BTreeSet<&str> = text.split("month=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(months.len() <= 2, "the API has the older ones: {months:?}");
        let mut promtool =
            Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let promtool = promtool.as_mut().unwrap_or_else(|error| panic!("promtool: {error}; tests/run installs it"));
        promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut promtool.stderr.take().unwrap(), &mut said).unwrap();
        assert!(promtool.wait().unwrap().success() && said.is_empty(), "{half}: {said}\n{text}");
    }
}
