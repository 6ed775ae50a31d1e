use std::path::Path;

use proptest::prelude::*;

use super::*;

/// The records of a version as they were written when it was current: they must be read, and written the same, for ever.
fn golden() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/v1");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut golden: Vec<_> = files.map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap())).collect();
    golden.sort();
    golden
}

fn refusal(text: &str) -> Refusal {
    decode(text.as_bytes()).unwrap().record.unwrap_err()
}

#[track_caller]
fn assert_refused(text: &str, reason: RefusalReason, detail: &str) {
    let refusal = refusal(text);
    assert_eq!(refusal.reason, reason, "{refusal}");
    assert!(refusal.detail.contains(detail), "{refusal}");
}

#[test]
fn golden_records_read_and_write_the_same() {
    let golden = golden();
    assert_eq!(golden.len(), 9);
    for (file, text) in golden {
        let decoded = decode(text.as_bytes()).unwrap();
        let record = decoded.record.unwrap();
        let details = file.contains("sample-full").then(|| decode_details(text.as_bytes()));
        let appended_at = decoded.appended_at.filter(|_| text.contains("appended_at"));
        assert_eq!(encode(&record, details.as_ref(), appended_at), text, "{file}");
    }
}

#[test]
fn what_golden_records_say_is_read() {
    let golden = golden();
    let text = &golden.iter().find(|(file, _)| file.contains("sample-full")).unwrap().1;
    let Ok(Record::Sample(sample)) = decode(text.as_bytes()).unwrap().record else { panic!("a sample") };
    assert_eq!((&*sample.target, &*sample.vantage, sample.seq, sample.outcome), ("s3-fr1", "az05", 42, Outcome::Fail));
    assert_eq!((sample.stamp(), sample.latency), (Time::from_us(1_774_567_890_000_412), Some(Span::from_us(30_211))));
    let details = decode_details(text.as_bytes());
    assert_eq!((details.reason, details.attempts, details.phases_us["connect"].as_i64()), (Some(Reason::Timeout), Some(2), Some(1900)));
}

#[test]
fn unknown_fields_and_reasons_are_ignored() {
    let sample = r#"{"zz":[{}],"v":1,"type":"sample","target":"t","vantage":"v","run":"r","seq":0,"t0":0,"t1":0,"outcome":"ok","reason":"new_word","period_us":1,"timeout_us":1,"clock_error_us":0,"x":null}"#;
    assert!(decode(sample.as_bytes()).unwrap().record.is_ok());
    assert_eq!(decode_details(sample.as_bytes()).reason, None);
}

#[test]
fn a_sample_that_breaks_a_rule_is_refused_by_name_and_keeps_its_append_time() {
    use RefusalReason::{EndsBeforeStart, Malformed, NewerVersion, PeriodOutOfRange, TimeOutOfRange, UnknownType};
    let sound = r#"{"v":1,"type":"sample","target":"t","vantage":"v","run":"r","seq":7,"t0":5,"t1":6,"outcome":"ok","period_us":1,"timeout_us":1,"clock_error_us":0,"appended_at":9}"#;
    assert!(decode(sound.as_bytes()).unwrap().record.is_ok());
    for (from, to, reason, detail) in [
        ("\"v\":1", "\"v\":2", NewerVersion, "`v` = 2"),
        ("\"v\":1", "\"v\":0", Malformed, "expected 1"),
        ("\"v\":1,", "", Malformed, "missing field `v`"),
        ("\"sample\"", "\"samples\"", UnknownType, "samples"),
        ("\"sample\"", "7", Malformed, "expected a string"),
        ("\"seq\":7,", "", Malformed, "missing field `seq`"),
        ("\"seq\":7", "\"seq\":-1", Malformed, "-1"),
        ("\"seq\":7", "\"seq\":18446744073709551616", Malformed, ""),
        ("\"seq\":7", "\"seq\":7,\"seq\":7", Malformed, "duplicate field `seq`"),
        ("\"outcome\":\"ok\"", "\"outcome\":\"OK\"", Malformed, "unknown variant"),
        ("\"t0\":5", "\"t0\":7", EndsBeforeStart, "`t0` = 7"),
        ("\"t0\":5", "\"t0\":5.0", Malformed, "floating point"),
        ("\"t1\":6", "\"t1\":9223372036854775807", TimeOutOfRange, "`t1`"),
        ("\"t0\":5,\"t1\":6,\"outcome\":\"ok\"", "\"t0\":-9223372036854775808,\"t1\":6,\"outcome\":\"fail\"", TimeOutOfRange, "`t0`"),
        ("\"period_us\":1", "\"period_us\":0", PeriodOutOfRange, "`period_us` = 0"),
        ("\"period_us\":1", "\"period_us\":86400000001", PeriodOutOfRange, "(0, 24 h]"),
        ("\"timeout_us\":1", "\"timeout_us\":-1", PeriodOutOfRange, "`timeout_us` = -1"),
        ("\"run\":\"r\"", "\"run\":\"r\",\"latency_us\":-1", Malformed, "-1"),
        ("\"run\":\"r\"", "\"run\":\"r\",\"latency_us\":18446744073709551615", Malformed, "latency_us"),
    ] {
        let broken = sound.replace(from, to);
        assert_ne!(broken, sound);
        assert_refused(&broken, reason, detail);
        assert_eq!(decode(broken.as_bytes()).unwrap().appended_at, Some(Time::from_us(9)), "{broken}");
    }
    let future = sound.replace("\"appended_at\":9", "\"appended_at\":9223372036854775807");
    assert_refused(&future, TimeOutOfRange, "`appended_at`");
    assert_eq!(decode(future.as_bytes()).unwrap().appended_at, None);
}

/// `i64::MAX` for "until further notice": SPEC §1 bounds no end.
#[test]
fn ends_outside_the_calendar_are_its_ends() {
    let sample = |t0: i64, t1: i64, outcome: &str| {
        let text = format!(
            r#"{{"v":1,"type":"sample","target":"t","vantage":"v","run":"r","seq":7,"t0":{t0},"t1":{t1},"outcome":"{outcome}","period_us":1,"timeout_us":1,"clock_error_us":0,"appended_at":9}}"#
        );
        match decode(text.as_bytes()).unwrap().record {
            Ok(Record::Sample(sample)) => (sample.t0, sample.t1),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(sample(5, i64::MAX, "fail"), (Time::from_us(5), Time::LATEST));
    assert_eq!(sample(i64::MIN, 6, "ok"), (Time::EARLIEST, Time::from_us(6)));
    let exclusion = |start: i64, end: i64| {
        let text = format!(
            r#"{{"v":1,"type":"exclusion","id":"M","rev":1,"kind":"customer","services":["s"],"start":{start},"end":{end},"state":"approved","override_by":" ","appended_at":9}}"#
        );
        decode(text.as_bytes()).unwrap().record.map(|record| match record {
            Record::Exclusion(exclusion) => exclusion,
            other => panic!("{other:?}"),
        })
    };
    let for_ever = exclusion(5, i64::MAX).unwrap();
    assert_eq!((for_ever.start, for_ever.end), (Time::from_us(5), Time::LATEST));
    assert_eq!(for_ever.override_by, None, "an empty name is nobody's");
    assert_eq!(exclusion(i64::MAX, i64::MAX).unwrap_err().reason, RefusalReason::EmptyPeriod);
}

#[test]
fn without_append_time_t1_stands_for_it() {
    let sample = r#"{"v":1,"type":"sample","target":"t","vantage":"v","run":"r","seq":7,"t0":5,"t1":6,"outcome":"ok","period_us":1,"timeout_us":1,"clock_error_us":0}"#;
    assert_eq!(decode(sample.as_bytes()).unwrap().appended_at, Some(Time::from_us(6)));
    assert_refused(r#"{"v":1,"type":"tick"}"#, RefusalReason::Malformed, "appended_at");
}

#[test]
fn a_log_that_stamps_its_records_overrules_what_they_say() {
    let stamp = Time::from_us(300);
    let claim = r#"{"v":1,"type":"claim","id":"T","rev":1,"service":"s","opened_at":100,"state":"received"}"#;
    assert_refused(claim, RefusalReason::Malformed, "missing field `appended_at`");
    for own in ["", ",\"appended_at\":0", ",\"appended_at\":null", ",\"appended_at\":9223372036854775807"] {
        let text = claim.replace("\"rev\":1", &format!("\"rev\":1{own}"));
        let decoded = decode_appended(text.as_bytes(), stamp).unwrap();
        assert!(decoded.record.is_ok(), "{:?}", decoded.record);
        assert_eq!(decoded.appended_at, Some(stamp));
    }
    let early = decode_appended(claim.as_bytes(), Time::from_us(100) - Sample::WORST_CLOCK - Span::from_us(1)).unwrap();
    assert_eq!(early.record.unwrap_err().reason, RefusalReason::InTheFuture);
}

/// A reader that takes the first of two and one that takes the last would disagree about what the record is.
#[test]
fn a_field_that_comes_twice_is_refused_in_every_record() {
    let sound = r#"{"v":1,"type":"claim","id":"T","rev":1,"service":"s","opened_at":100,"state":"received","appended_at":300}"#;
    for (field, again) in [("v", "1"), ("type", "\"tick\""), ("appended_at", "300"), ("rev", "2"), ("id", "\"T\"")] {
        let twice = sound.replace("\"state\"", &format!("\"{field}\":{again},\"state\""));
        assert_refused(&twice, RefusalReason::Malformed, &format!("duplicate field `{field}`"));
    }
}

#[test]
fn an_append_time_outside_the_calendar_is_refused_by_name() {
    for us in [Time::EARLIEST.us() - 1, Time::LATEST.us() + 1, i64::MAX, i64::MIN] {
        assert_refused(&format!(r#"{{"v":1,"type":"tick","appended_at":{us}}}"#), RefusalReason::TimeOutOfRange, "`appended_at`");
    }
    for us in [Time::EARLIEST, Time::LATEST] {
        let tick = format!(r#"{{"v":1,"type":"tick","appended_at":{}}}"#, us.us());
        assert_eq!(decode(tick.as_bytes()).unwrap(), Decoded { appended_at: Some(us), record: Ok(Record::Tick) });
    }
    for other in ["1.5", "\"1\"", "[1]", "9223372036854775808", "true"] {
        assert_refused(&format!(r#"{{"v":1,"type":"tick","appended_at":{other}}}"#), RefusalReason::Malformed, "is not an instant");
    }
}

#[test]
fn facts_that_break_a_rule_are_refused() {
    use RefusalReason::{EmptyPeriod, InTheFuture, Malformed};
    let claim =
        r#"{"v":1,"type":"claim","id":"T","rev":1,"service":"s","opened_at":100,"state":"accepted","resolved_at":200,"appended_at":300}"#;
    let exclusion = r#"{"v":1,"type":"exclusion","id":"M","rev":1,"kind":"customer","services":["s"],"start":100,"end":200,"state":"approved","appended_at":300}"#;
    for (sound, from, to, reason) in [
        (claim, "\"resolved_at\":200", "\"resolved_at\":100", EmptyPeriod),
        (claim, "\"opened_at\":100", "\"opened_at\":1000301", EmptyPeriod),
        (claim, "\"resolved_at\":200", "\"resolved_at\":1000301", InTheFuture),
        (
            claim,
            "\"opened_at\":100,\"state\":\"accepted\",\"resolved_at\":200",
            "\"opened_at\":1000301,\"state\":\"accepted\"",
            InTheFuture,
        ),
        (claim, "\"accepted\"", "\"perhaps\"", Malformed),
        (claim, "\"rev\":1", "\"rev\":\"1\"", Malformed),
        (exclusion, "\"end\":200", "\"end\":100", EmptyPeriod),
        (exclusion, "\"customer\"", "\"weather\"", Malformed),
        (exclusion, "[\"s\"]", "\"s\"", Malformed),
        (exclusion, "\"state\":\"approved\"", "\"state\":null", Malformed),
    ] {
        assert!(decode(sound.as_bytes()).unwrap().record.is_ok());
        let broken = sound.replace(from, to);
        assert_ne!(broken, sound);
        assert_refused(&broken, reason, "");
    }
    let just_so = claim.replace("\"resolved_at\":200", "\"resolved_at\":1000300");
    assert!(decode(just_so.as_bytes()).unwrap().record.is_ok(), "a second of the future is allowed");
}

#[test]
fn what_is_no_json_object_is_unreadable() {
    let long = [b"{\"x\":\"".to_vec(), vec![b'a'; LONGEST_RECORD_BYTES], b"\"}".to_vec()].concat();
    let deep = format!("{{\"v\":{}", "[".repeat(100_000));
    let inputs: [&[u8]; 9] = [b"", b"null", b"[1]", b"7", b"{\"v\":1", b"{\"v\":1} x", b"\xff{}", b"{'v':1}", b"\xef\xbb\xbf{}"];
    for bytes in inputs.into_iter().chain([long.as_slice(), deep.as_bytes()]) {
        let unreadable = decode(bytes).unwrap_err();
        assert!(unreadable.to_string().len() < 400, "an error does not repeat what it met");
    }
}

#[test]
fn ten_million_bytes_on_a_line_are_read_or_named() {
    let padded = format!(r#"{{"v":1,"type":"tick","appended_at":1,"x":"{}"}}"#, "a".repeat(10_000_000));
    assert_eq!(decode(padded.as_bytes()).unwrap().record, Ok(Record::Tick));
    let name = format!(r#"{{"v":1,"type":"{}","appended_at":1}}"#, "a".repeat(10_000_000));
    assert!(refusal(&name).detail.len() < 200);
    let state = format!(
        r#"{{"v":1,"type":"claim","id":"T","rev":1,"service":"s","opened_at":1,"state":"{}","appended_at":1}}"#,
        "a".repeat(10_000_000)
    );
    assert!(refusal(&state).detail.len() < 400);
    let deep = format!(r#"{{"v":1,"type":"tick","appended_at":1,"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(decode(deep.as_bytes()).unwrap().record, Ok(Record::Tick));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        let _ = decode_details(&bytes);
    }

    #[test]
    fn no_mutation_of_a_record_panics(which in 0..9_usize, at in any::<prop::sample::Index>(), with in prop::sample::select(vec![
        "", "-", "9223372036854775808", "null", "\"", "{", "[[", "1e999", "\\u0000", "\u{1F600}", "true", ",",
    ])) {
        let text = golden().swap_remove(which).1;
        let at = (0..=at.index(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let mutated = format!("{}{with}{}", &text[..at], text[at..].chars().skip(1).collect::<String>());
        if let Ok(decoded) = decode(mutated.as_bytes()) && let Ok(record) = decoded.record {
            let again = encode(&record, None, decoded.appended_at);
            prop_assert_eq!(decode(again.as_bytes()).unwrap().record.unwrap(), record);
        }
    }

    #[test]
    fn samples_round_trip(seq in any::<u64>(), t0 in 0..2_i64.pow(50), took in 0..86_400_000_000_i64, period in 1..86_400_000_001_i64,
        latency in proptest::option::of(0..i64::MAX), clock_error in any::<i64>(), name in "\\PC{1,20}") {
        let sample = Sample {
            target: name.clone().into(), vantage: name.clone().into(), run: name.into(), seq,
            t0: Time::from_us(t0), t1: Time::from_us(t0 + took), outcome: Outcome::Void,
            latency: latency.map(Span::from_us), period: Span::from_us(period), timeout: Span::from_us(period),
            clock_error: Span::from_us(clock_error),
        };
        let text = encode(&Record::Sample(sample.clone()), None, None);
        prop_assert_eq!(decode(text.as_bytes()).unwrap().record, Ok(Record::Sample(sample)));
    }
}
