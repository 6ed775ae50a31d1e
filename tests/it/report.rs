//! What people read in the terminal: windows and the month, in both languages and three formats, as the API has them.

use serde_json::Value;
use vigie_tests::program::wait_for;
use vigie_tests::region::Region;

#[test]
fn the_report_is_what_the_api_says_in_every_format_and_language() {
    let region = Region::start();
    region.break_web();
    let id = region.mend_web();
    let stored = || {
        let lines = region.vigie(&["windows", "--json", "--service", "web/r1"]);
        serde_json::from_str::<Value>(lines.lines().next()?).ok().filter(|window| window["end_us"].is_i64())
    };
    // What the API shows is stored a moment later.
    let window = wait_for("the window's end in the store", stored);
    let told = region.aggregator.json(&format!("/api/v1/windows/{id}"));
    for field in ["id", "onset_us", "end_us", "first_failed_us", "detected_us", "observed_down_us", "inferred_down_us"] {
        assert_eq!(window[field], told[field], "{field}");
    }
    assert!(region.vigie(&["windows"]).contains("web/r1"));

    let month = region.aggregator.json("/api/v1/status")["month"].as_str().unwrap().to_owned();
    let report = |more: &[&str]| region.vigie(&[&["report", "--month", &month], more].concat());
    let json: Value = serde_json::from_str(&report(&["--format", "json"])).unwrap();
    let of = |accounts: &Value| accounts.as_array().unwrap().iter().find(|account| account["service"] == "web/r1").unwrap().clone();
    let (stored, live) = (of(&json["accounts"]), of(&region.aggregator.json(&format!("/api/v1/accounts?month={month}"))["accounts"]));
    for field in ["gross_down_us", "down_us", "budget_us", "remaining_us", "base_us"] {
        assert_eq!(stored[field], live[field], "{field}");
    }
    assert_eq!(stored["down_us"].as_i64(), Some(told["end_us"].as_i64().unwrap() - told["onset_us"].as_i64().unwrap()));
    let csv = report(&["--format", "csv"]);
    assert!(csv.starts_with("service,indicator,contractual,month,base_us") && csv.contains(&stored["down_us"].to_string()), "{csv}");
    assert!(report(&[]).contains("verdict") && report(&["--lang", "fr"]).contains("reste du budget"));
}
